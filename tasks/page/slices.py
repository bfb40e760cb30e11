"""The table of slices in; what the page shows of it out: by target and column, the slices that fare worst first."""

from pathlib import Path
from typing import Any

import pandas as pd

MAX_ROWS = 40  # slices of a column; the table has them all
NUMBERS = ("num_samples", "candidate_accuracy", "candidate_low", "candidate_high", "baseline_accuracy", "negative_flips",
           "positive_flips")  # fmt: skip


def read_slices(path: Path) -> pd.DataFrame:
    """A row a slice: target, column, value and NUMBERS. Names are text, whatever they look like."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: run `dvc repro evaluate`, or `dvc pull evaluate`") from None
    return table.assign(**{name: pd.to_numeric(table[name]) for name in NUMBERS})


def slices(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The columns of a target's slices, with their rows; None where there is no baseline."""
    found = []
    for column, rows in table.groupby("column", sort=False):
        lost = (rows["candidate_accuracy"] - rows["baseline_accuracy"]).fillna(0).clip(upper=0)
        ordered = rows.assign(lost=lost).sort_values(["lost", "candidate_accuracy", "value"])
        shown = ordered.head(MAX_ROWS).astype(object)
        records = shown.where(shown.notna(), None).to_dict("records")
        found.append({"column": str(column), "rows": records, "num_rows": len(rows)})
    return found
