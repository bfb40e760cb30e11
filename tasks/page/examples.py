"""Choose right predictions of each class, so that a person sees what the class looks like."""

from collections.abc import Sequence

import pandas as pd


def examples(predictions: pd.DataFrame, batches: Sequence[str], *, limit: int) -> pd.DataFrame:
    """Return at most `limit` right predictions, by target and label.

    All classes get an equal share. If there are more classes than `limit`, some get none. The newest batches come
    first, because their files are at hand; in a batch, the smallest sample_ids are a random draw that stays the same.
    """
    age = {batch: number for number, batch in enumerate(reversed(batches))}
    right = predictions[predictions["candidate"] == predictions["label"]]
    right = right.assign(age=right["batch"].map(age)).sort_values(["target", "label", "age", "sample_id"])
    classes = right.groupby(["target", "label"], sort=False)
    return classes.head(max(limit // max(classes.ngroups, 1), 1)).head(limit).drop(columns="age").reset_index(drop=True)


def by_class(chosen: pd.DataFrame, predictions: pd.DataFrame) -> list[dict[str, object]]:
    """Return the classes of the chosen examples, with their rows and with how many held-out samples are right."""
    is_right = predictions["candidate"] == predictions["label"]
    counts = is_right.groupby([predictions["target"], predictions["label"]]).agg(["sum", "size"])
    return [
        {
            "target": target,
            "name": name,
            "num_right": int(counts.loc[(target, name), "sum"]),
            "num_heldout": int(counts.loc[(target, name), "size"]),
            "rows": rows.to_dict("records"),
        }
        for (target, name), rows in chosen.groupby(["target", "label"], sort=False)
    ]
