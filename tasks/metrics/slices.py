"""Measure the candidate and the baseline on slices of the held-out samples."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.metrics.accuracy import wilson
from tasks.metrics.significance import compare

CLASS, SIZE = "class", "size"  # slices that are not columns of the manifest
COLUMNS = (
    "target", "column", "value", "num_samples", "candidate_accuracy", "candidate_low", "candidate_high",
    "num_shared", "baseline_accuracy", "negative_flips", "positive_flips",
)  # fmt: skip


def check_slices(rows: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise ValueError naming a column that the held-out rows of the manifest lack, or in which no row has a value."""
    for column in columns:
        if column in (CLASS, SIZE):
            continue
        if column not in rows:
            raise ValueError(
                f"evaluate.slices names {column!r}, expected {CLASS}, {SIZE} or a column of the manifest: "
                f"{', '.join(map(str, rows.columns))}"
            )
        if rows[column].isna().all():
            raise ValueError(
                f"evaluate.slices names {column!r}, a slice without samples: no held-out sample has a value there; "
                "remove it from the list, or fill in the values"
            )


def slice_table(rows: pd.DataFrame, *, columns: Sequence[str], target: str, confidence: float) -> pd.DataFrame:
    """Return a table with one row per slice of `rows`, and the columns COLUMNS.

    Args:
        rows: the columns of the manifest, label, candidate, is_shared and, if there is a baseline, baseline. The
            candidate is compared with the baseline on the rows where is_shared: the baseline knows their class.
        columns: `class` for the labels, `size` for an image's shorter side in px or a text's words, or a column of
            the manifest.
    """
    slices = []
    for column in columns:
        for value, members in groups(rows, column):
            slices.append({"target": target, "column": column, "value": value} | measure(members, confidence))
    return pd.DataFrame(slices, columns=list(COLUMNS))


def groups(rows: pd.DataFrame, column: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the slices of a column with their values. A sample without a value is in no slice."""
    if column == SIZE:
        sizes, unit = (rows[["width", "height"]].min(axis=1), "px") if "width" in rows else (rows["words"], "words")
        lows = powers_of_two(sizes.to_numpy())
        for low in np.unique(lows).tolist():
            yield f"{low} to {2 * low - 1} {unit}" if low > 1 else f"1 {unit.removesuffix('s')}", rows[lows == low]
        return
    for value, members in rows.groupby(rows["label"] if column == CLASS else rows[column], sort=True):
        yield str(value), members


def powers_of_two(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each size (n,) the largest power of two that is not above it: 64 for 100."""
    return 2 ** np.floor(np.log2(np.maximum(sizes, 1))).astype(np.int64)


def measure(members: pd.DataFrame, confidence: float) -> dict[str, float | int | None]:
    is_right = (members["candidate"] == members["label"]).to_numpy()
    low, high = wilson(int(is_right.sum()), len(members), confidence=confidence)
    measured: dict[str, float | int | None] = {
        "num_samples": len(members),
        "candidate_accuracy": float(is_right.mean()),
        "candidate_low": low,
        "candidate_high": high,
    }
    is_shared = members["is_shared"].to_numpy()
    if "baseline" in members and is_shared.any():
        was_right = (members["baseline"] == members["label"]).to_numpy()[is_shared]
        flips = compare(candidate=is_right[is_shared], baseline=was_right)
        measured |= {
            "num_shared": int(is_shared.sum()),
            "baseline_accuracy": float(was_right.mean()),
            "negative_flips": flips.negative,
            "positive_flips": flips.positive,
        }
    return measured
