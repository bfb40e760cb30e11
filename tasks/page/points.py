"""Pack what the page's map draws: the places of held-out samples on a plane, and their predictions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tasks.page.packing import pack, pack_within

NONE = 65535  # the index that means "no label"
MAX_PATH_BYTES = 1_500_000  # bytes of the page that paths may take


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
        `x`, `y`, `batch` (index into `batches`) and `paths`. For each target: `label`, `candidate`, `baseline` (index
        into `names`, or NONE) and `confidence` (0..255).
    """
    position = pd.Series(np.arange(len(samples)), index=samples["sample_id"])
    is_wrong = samples["sample_id"].isin(predictions.loc[predictions["candidate"] != predictions["label"], "sample_id"])
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
        "targets": [_target(str(target), members, position) for target, members in rows.groupby("target")],
    }


def _target(name: str, rows: pd.DataFrame, position: "pd.Series[int]") -> dict[str, Any]:
    models = [model for model in ("candidate", "baseline") if model in rows]
    names = sorted(set().union(*(rows[column] for column in ("label", *models))))
    index = {label: number for number, label in enumerate(names)}
    positions = position[rows["sample_id"]].to_numpy()

    def spread(values: NDArray[Any], *, fill: int) -> str:
        array = np.full(len(position), fill, dtype=values.dtype)
        array[positions] = values
        return pack(array)

    confidence = (rows["candidate_confidence"].to_numpy() * 255).round().astype(np.uint8)
    packed = {column: spread(rows[column].map(index).to_numpy(np.uint16), fill=NONE) for column in ("label", *models)}
    return {"name": name, "names": names, "confidence": spread(confidence, fill=0)} | packed
