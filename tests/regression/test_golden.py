"""Samples that must always be right: golden.csv has a row for each, with its sample_id, target and label."""

from pathlib import Path

import pandas as pd

GOLDEN = Path(__file__).parent / "golden.csv"


def test_golden_samples_are_right(heldout, candidate, rule):
    for sample_id, target, label in pd.read_csv(GOLDEN, dtype=str, keep_default_na=False).itertuples(index=False):
        is_it = (heldout["sample_id"] == sample_id) & (heldout["target"] == target)
        if not is_it.any():
            raise LookupError(
                f"golden sample {sample_id[:12]} is not held out: give it the split heldout, "
                "or remove it from golden.csv"
            )
        rule(
            f"{target} golden sample {sample_id[:12]} is {label}",
            (candidate["label"][is_it] == label).all(),
            at_least=1,
        )
