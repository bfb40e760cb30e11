"""Choose right predictions of each class, so that a person sees what the class looks like."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from tasks.metrics.outcomes import right_answers


def examples(predictions: pd.DataFrame, batches: Sequence[str], *, limit: int) -> pd.DataFrame:
    """Return at most `limit` right predictions, by target and label.

    All classes get an equal share. If there are more classes than `limit`, some get none. The newest batches come
    first, because their files are at hand; in a batch, the smallest sample_ids are a random draw that stays the same.
    """
    age = {batch: number for number, batch in enumerate(reversed(batches))}
    right = predictions[right_answers(predictions, model="candidate")]
    right = right.assign(age=right["batch"].map(age)).sort_values(["target", "label", "age", "sample_id"])
    classes = right.groupby(["target", "label"], sort=False)
    return classes.head(max(limit // max(classes.ngroups, 1), 1)).head(limit).drop(columns="age").reset_index(drop=True)


def by_class(chosen: pd.DataFrame, predictions: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the classes of the chosen examples, with their rows and with how many held-out samples are right."""
    keys = ["target", "label"]
    num_heldout = predictions.groupby(keys).size().to_dict()
    num_right = predictions[right_answers(predictions, model="candidate")].groupby(keys).size().to_dict()
    return [
        {
            "target": rows["target"].iloc[0],
            "name": rows["label"].iloc[0],
            "num_right": num_right[key],
            "num_heldout": num_heldout[key],
            "rows": rows.to_dict("records"),
        }
        for key, rows in chosen.groupby(keys, sort=False)
    ]
