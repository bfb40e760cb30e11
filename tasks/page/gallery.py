"""Choose the wrong predictions that are worth a look: negative flips, and errors with the least likely label."""

import pandas as pd

FLIP = "negative flip"
ERROR = "error"


def worst(predictions: pd.DataFrame, *, limit: int) -> pd.DataFrame:
    """Return about `limit` wrong predictions with their `kind`, negative flips first.

    All targets get an equal share, and at least one. Half of a share is for negative flips and half for other errors;
    if one kind has fewer, the other gets its places. Inside a kind, the least likely labels come first.
    """
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
