"""Pack what the page's map draws: the places of held-out samples on a plane, and their predictions."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tasks.metrics.outcomes import right_answers
from tasks.page.outcomes import errors, has_answers
from tasks.page.packing import pack, pack_within
from tasks.page.scatter import span
from tasks.page.wording import figure, in_words, unit_of
from tasks.targets.number import Number
from tasks.targets.target import Target

NONE = 65535  # the index that means "no label"
MAX_PATH_BYTES = 1_500_000  # bytes of the page that paths may take
MAX_WORD_BYTES = 300_000  # that the answers of one model to one target may take, if they are no classes
NUM_RANGES = 8  # of a number, each with its colour
OUTCOMES = ("right", "gained", "wrong", "lost")  # in the order that the page's script knows


def read_places(path: Path, *, num_samples: int) -> NDArray[np.uint16]:
    """Return the places (num_samples, 2) of the held-out samples, in the order of the manifest.

    Raises:
        ValueError: the file is missing, or has the places of other samples.
    """
    try:
        places: NDArray[np.uint16] = load_file(path)["places"]
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: run `dvc repro evaluate`, or `dvc pull evaluate`") from None
    if len(places) != num_samples:
        raise ValueError(f"{path} has {len(places)} places, expected {num_samples}: run `dvc repro evaluate`")
    return places


def points(
    samples: pd.DataFrame,
    places: NDArray[np.uint16],
    predictions: pd.DataFrame,
    *,
    targets: Mapping[str, Target],
    previews: Mapping[str, int],
    max_path_bytes: int = MAX_PATH_BYTES,
) -> dict[str, Any]:
    """Return the points of the map as packed arrays of length n.

    Args:
        samples: n held-out rows with sample_id, batch, path
        places: (n, 2)
        predictions: one row per sample and target; samples without a label have none
        previews: the number of the preview on the page, by sample_id
        max_path_bytes: bytes of the page that paths may take

    Returns:
        `x`, `y`, `batch` (index into `batches`) and `paths`. For each target its `kind`, if it is not `classes`, and
        `label` (index into `names`, or NONE). The names of a number are ranges; several labels at once have none.

        If the answers are classes or steps: `candidate`, `baseline` (index into `names`, or NONE), and for classes
        `confidence` (0..255). Else `outcome` (index into OUTCOMES), and `words`: the texts of truth and answers, by
        model.
    """
    position = pd.Series(np.arange(len(samples)), index=samples["sample_id"])
    is_wrong = samples["sample_id"].isin(predictions.loc[~right_answers(predictions, model="candidate"), "sample_id"])
    wrong_first = np.argsort(~is_wrong.to_numpy(), kind="stable")
    paths, num_paths = pack_within(samples["path"].tolist(), order=wrong_first, max_bytes=max_path_bytes)
    batches = list(dict.fromkeys(samples["batch"]))
    rows = predictions[predictions["sample_id"].isin(position.index)]
    return {
        "n": len(samples),
        "x": pack(places[:, 0]),
        "y": pack(places[:, 1]),
        "batches": batches,
        "batch": pack(samples["batch"].map({name: number for number, name in enumerate(batches)}).to_numpy(np.uint16)),
        "paths": paths,
        "num_paths": num_paths,
        "previews": {str(position[identity]): number for identity, number in previews.items() if identity in position},
        "targets": [
            {"name": str(name)} | _target(targets[str(name)], members, position)
            for name, members in rows.groupby("target")
        ],
    }


def _target(target: Target, rows: pd.DataFrame, position: "pd.Series[int]") -> dict[str, Any]:
    models = [model for model in ("candidate", "baseline") if has_answers(rows, model)]
    positions = position[rows["sample_id"]].to_numpy()

    def spread(values: NDArray[Any], *, fill: int) -> str:
        array = np.full(len(position), fill, dtype=values.dtype)
        array[positions] = values
        return pack(array)

    if target.kind in ("number", "several"):
        names, places = _ranges(rows, target) if isinstance(target, Number) else ([], np.zeros(len(rows), np.uint16))
        by_size = positions[np.argsort(-errors(rows), kind="stable")]
        words = {}
        for column in ("label", *models):
            texts = np.full(len(position), "", dtype=object)
            texts[positions] = in_words(rows[column].fillna(""), target)
            words[column], _ = pack_within(texts.tolist(), order=by_size, max_bytes=MAX_WORD_BYTES)
        packed = {"label": spread(places, fill=NONE), "outcome": spread(_outcomes(rows, models), fill=0)}
        return {"kind": target.kind, "names": names, "words": words} | packed
    by_model = (rows[column].dropna() for column in ("label", *models))
    names = sorted(set().union(*by_model)) if target.kind == "classes" else list(target.names)
    index = {label: number for number, label in enumerate(names)}
    packed = {
        column: spread(rows[column].map(index).fillna(NONE).to_numpy(np.uint16), fill=NONE)
        for column in ("label", *models)
    }
    if target.kind == "classes":
        confidence = (rows["candidate_confidence"].to_numpy(np.float64) * 255).round().astype(np.uint8)
        packed["confidence"] = spread(confidence, fill=0)
        return {"names": names} | packed
    return {"kind": target.kind, "names": names} | packed


def _outcomes(rows: pd.DataFrame, models: list[str]) -> NDArray[np.uint8]:
    """Return the index (n,) of each row's outcome in OUTCOMES."""
    now = right_answers(rows, model="candidate")
    was = right_answers(rows, model="baseline") if "baseline" in models else now
    return np.where(now, np.where(was, 0, 1), np.where(was, 3, 2)).astype(np.uint8)


def _ranges(rows: pd.DataFrame, target: Number) -> tuple[list[str], NDArray[np.uint16]]:
    """Return NUM_RANGES equal ranges of a number in words, and the index (n,) of that of each truth."""
    truths = rows["label_value"].to_numpy(np.float64)
    ends = np.linspace(*span(truths), NUM_RANGES + 1)
    names = [f"{figure(low, digits=3)} to {figure(high, digits=3)}{unit_of(target)}" for low, high in pairwise(ends)]
    return names, np.digitize(truths, ends[1:-1]).astype(np.uint16)
