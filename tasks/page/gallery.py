"""Predictions in; the rows worth looking at out: negative flips, and the errors that the candidate was surest of."""

import pandas as pd

FLIP = "negative flip"
ERROR = "error"


def worst(predictions: pd.DataFrame, *, limit: int) -> pd.DataFrame:
    """At most `limit` wrong predictions, shared out among the targets, of which each has one at least, with their `kind`; half of them negative flips where
    there are as many, and of each kind those first whose label was thought the least likely."""
    targets = [rows for _, rows in predictions.groupby("target")]
    share = max(limit // max(len(targets), 1), 1)
    return pd.concat([_worst(rows, limit=share) for rows in targets], ignore_index=True)


def _worst(rows: pd.DataFrame, *, limit: int) -> pd.DataFrame:
    wrong = rows[rows["candidate"] != rows["label"]].assign(kind=ERROR)
    if "baseline" in rows:
        wrong.loc[wrong["baseline"] == wrong["label"], "kind"] = FLIP
    wrong = wrong.sort_values(["candidate_label_probability", "sample_id"])
    flips, errors = wrong[wrong["kind"] == FLIP], wrong[wrong["kind"] == ERROR]
    num_flips = min(len(flips), max(limit // 2, limit - len(errors)))
    return pd.concat([flips.head(num_flips), errors.head(limit - num_flips)])
