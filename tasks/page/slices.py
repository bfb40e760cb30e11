"""The slices on the page: the worst ones of each column first."""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.data.manifest.tables import read_text_table

MAX_ROWS = 40  # slices of one column on the page; slices.csv has them all
NUMBERS = ("num_samples", "candidate_accuracy", "candidate_low", "candidate_high", "num_shared", "baseline_accuracy",
           "negative_flips", "positive_flips")  # fmt: skip
ERRORS = ("candidate_error", "baseline_error")  # where a target is of another kind than classes
PLACES = {
    "candidate_accuracy": "at",
    "candidate_low": "low_at",
    "candidate_high": "high_at",
    "baseline_accuracy": "baseline_at",
}


def read_slices(path: Path) -> pd.DataFrame:
    """Return one row per slice: target, column, value, NUMBERS and, if they are there, ERRORS.

    A name stays text even if it looks like a number.
    """
    try:
        table = read_text_table(path)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: run `dvc repro evaluate`, or `dvc pull evaluate`") from None
    numbers = [name for name in (*NUMBERS, *ERRORS) if name in table]
    return table.assign(**{name: pd.to_numeric(table[name]) for name in numbers})


def slices(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the columns of a target's slices, with their rows; the numbers of a missing baseline are None.

    The slices that lost the most come first, then the least accurate; equal ones stay in the table's order. Losses are
    counted on the samples on which both models are compared.

    `at`, `low_at`, `high_at` and `baseline_at` are places on 0..100, for accuracies from `bottom` to 1. `baseline_at`
    is None if the two models were measured on different samples.
    """
    columns = []
    for column, rows in table.groupby("column", sort=False):
        gain = (rows["positive_flips"] - rows["negative_flips"]) / rows["num_shared"]
        lost = gain.fillna(0).clip(upper=0)
        ordered = rows.assign(lost=lost).sort_values(["lost", "candidate_accuracy"])
        shown = ordered.head(MAX_ROWS)
        lowest = shown[["candidate_low", "baseline_accuracy"]].min().min()
        bottom = min(math.floor(lowest * 10) / 10, 0.9)
        places = {place: 100 * (shown[name] - bottom) / (1 - bottom) for name, place in PLACES.items()}
        places["baseline_at"] = places["baseline_at"].where(shown["num_shared"] == shown["num_samples"])
        placed = shown.assign(**places).astype(object)
        records = placed.where(placed.notna(), None).to_dict("records")
        has_errors = "candidate_error" in shown and bool(shown["candidate_error"].notna().any())
        columns.append(
            {"column": str(column), "rows": records, "num_rows": len(rows), "bottom": bottom, "has_errors": has_errors}
        )
    return columns
