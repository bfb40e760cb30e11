"""Choose the errors that are worth a look: negative flips, the least likely labels, and the largest errors."""

import numpy as np
import pandas as pd

from tasks.metrics.outcomes import right_answers
from tasks.page.outcomes import errors, has_answers

FLIP = "negative flip"
ERROR = "error"


def worst(predictions: pd.DataFrame, *, limit: int) -> pd.DataFrame:
    """Return about `limit` predictions that are off, with their `kind`, negative flips first.

    All targets get an equal share, and at least one. Half of a share is for negative flips and half for other errors;
    if one kind has fewer, the other gets its places. Inside a kind, the largest errors come first, and of equal ones,
    such as wrong classes, the least likely labels. A number is never quite right, so its largest errors are there even
    if all are small.
    """
    targets = [rows for _, rows in predictions.groupby("target")]
    share = max(limit // max(len(targets), 1), 1)
    return pd.concat([_worst(rows, limit=share) for rows in targets], ignore_index=True)


def _worst(rows: pd.DataFrame, *, limit: int) -> pd.DataFrame:
    wrong = rows.assign(_error=errors(rows), kind=ERROR)
    if has_answers(rows, "baseline"):
        is_flip = right_answers(rows, model="baseline") & ~right_answers(rows, model="candidate")
        wrong["kind"] = np.where(is_flip, FLIP, ERROR)
    order = [name for name in ("_error", "candidate_label_probability", "sample_id") if name in wrong]
    wrong = wrong[wrong["_error"] > 0].sort_values(order, ascending=[name != "_error" for name in order])
    wrong = wrong.drop(columns="_error")
    flips, others = wrong[wrong["kind"] == FLIP], wrong[wrong["kind"] == ERROR]
    num_flips = min(len(flips), max(limit // 2, limit - len(others)))
    return pd.concat([flips.head(num_flips), others.head(limit - num_flips)])
