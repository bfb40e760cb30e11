"""Samples that must always be right: golden.csv has a row for each, with its sample_id, target and label.

The label is written as predictions.parquet has it, such as ["even","loop"] for several labels. The answer of a number
is right within the tolerance of its target.
"""

from pathlib import Path

import pandas as pd

GOLDEN = Path(__file__).parent / "golden.csv"


def test_golden_samples_are_right(heldout, candidate, metrics, rule):
    for sample_id, target, label in pd.read_csv(GOLDEN, dtype=str, keep_default_na=False).itertuples(index=False):
        is_it = (heldout["sample_id"] == sample_id) & (heldout["target"] == target)
        if not is_it.any():
            raise LookupError(
                f"golden sample {sample_id[:12]} is not held out: give it the split heldout, "
                "or remove it from golden.csv"
            )
        if metrics[target].get("kind") == "number":
            is_right = (candidate["value"][is_it] - number(label)).abs() <= metrics[target]["candidate"]["tolerance"]
        else:
            is_right = candidate["label"][is_it] == label
        rule(f"{target} golden sample {sample_id[:12]} is {label}", is_right.all(), at_least=1)


def number(label):
    try:
        return float(label)
    except ValueError:
        raise LookupError(f"golden.csv has the label {label!r} of a number, expected one such as 12.5") from None
