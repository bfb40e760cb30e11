"""Held-out samples, their places on a plane and their predictions in; what the page's map draws, packed, out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.page.packing import pack, pack_within

NONE = 65535  # the index of a label that a sample does not have
MAX_PATH_BYTES = 1_500_000  # of the page


def points(
    samples: pd.DataFrame,
    places: NDArray[np.uint16],
    predictions: pd.DataFrame,
    *,
    pictures: Mapping[str, int],
    max_path_bytes: int = MAX_PATH_BYTES,
) -> dict[str, Any]:
    """Arrays of n points.

    Args:
        samples: n held-out rows: sample_id, batch, path.
        places: (n, 2).
        predictions: a row a sample and target; samples without a label have none.
        pictures: by sample_id, the number of its thumbnail on the page.

    Returns:
        `x`, `y`, `batch` (index of `batches`) and `path`, then by target `label`, `candidate`, `baseline` (index of `names`,
        or NONE) and `confidence` (0..255).
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
        "batch": pack(samples["batch"].map({name: at for at, name in enumerate(batches)}).to_numpy(np.uint16)),
        "paths": paths,
        "num_paths": num_paths,
        "pictures": {str(position[identity]): at for identity, at in pictures.items() if identity in position},
        "targets": [_target(str(target), each, position) for target, each in rows.groupby("target")],
    }


def _target(name: str, rows: pd.DataFrame, position: "pd.Series[int]") -> dict[str, Any]:
    models = [each for each in ("candidate", "baseline") if each in rows]
    names = sorted(set().union(*(rows[column] for column in ("label", *models))))
    index = {each: at for at, each in enumerate(names)}
    at = position[rows["sample_id"]].to_numpy()

    def spread(values: NDArray[Any], *, fill: int) -> str:
        array = np.full(len(position), fill, dtype=values.dtype)
        array[at] = values
        return pack(array)

    confidence = (rows["candidate_confidence"].to_numpy() * 255).round().astype(np.uint8)
    packed = {each: spread(rows[each].map(index).to_numpy(np.uint16), fill=NONE) for each in ("label", *models)}
    return {"name": name, "names": names, "confidence": spread(confidence, fill=0)} | packed
