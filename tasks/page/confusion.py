"""The confusion matrix of a target: a table if it fits the page, cells for a drawing, and the most confused pairs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tasks.page.packing import pack

MAX_TABLE = 20  # classes whose matrix can be read as a table
MAX_PAIRS = 12
SHADES = 10


def confusion(predictions: pd.DataFrame, *, scale: Sequence[str] = ()) -> dict[str, Any]:
    """Count the classes in `label` (rows, actual) against those in `candidate` (columns, predicted).

    Args:
        scale: the steps in their order, if the classes are steps

    Returns:
        names: the steps, or the classes in order
        cells: the k cells that are not 0, as packed arrays `row`, `column` (uint16) and `count` (uint32)
        rows: the table, with each cell's share of its row in SHADES steps; None for more than MAX_TABLE classes
        is_scale: whether the classes are steps
        pairs: at most MAX_PAIRS pairs of different classes, the most frequent first
        num_pairs: the number of all such pairs
    """
    names = list(scale) or sorted(set(predictions["label"]) | set(predictions["candidate"]))
    index = {name: number for number, name in enumerate(names)}
    actual, predicted = (predictions[column].map(index).to_numpy(np.int64) for column in ("label", "candidate"))
    flat, count = np.unique(actual * len(names) + predicted, return_counts=True)
    row, column = np.divmod(flat, max(len(names), 1))
    totals = np.bincount(actual, minlength=len(names))
    share = count / totals[row]
    wrong = np.flatnonzero(row != column)
    pairs = wrong[np.argsort(-count[wrong], kind="stable")][:MAX_PAIRS]
    return {
        "names": names,
        "is_scale": bool(scale),
        "cells": {
            "row": pack(row.astype(np.uint16)),
            "column": pack(column.astype(np.uint16)),
            "count": pack(count.astype(np.uint32)),
        },
        "rows": _table(names, row, column, count, share) if len(names) <= MAX_TABLE else None,
        "pairs": [
            {"label": names[row[k]], "candidate": names[column[k]], "count": int(count[k]), "share": float(share[k])}
            for k in pairs
        ],
        "num_pairs": len(wrong),
    }


def _table(names: list[str], row: Any, column: Any, count: Any, share: Any) -> list[dict[str, Any]]:
    cells = [[{"count": 0, "shade": 0} for _ in names] for _ in names]
    for i, j, number, part in zip(row, column, count, share, strict=True):
        cells[i][j] = {"count": int(number), "shade": int(np.ceil(part * SHADES))}
    return [{"name": name, "cells": cells_of_row} for name, cells_of_row in zip(names, cells, strict=True)]
