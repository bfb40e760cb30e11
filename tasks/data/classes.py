"""The classes of a target, in the order in which they landed; one that becomes usable later takes its batch's place."""

import pandas as pd


def classes_in_order(samples: pd.DataFrame, *, target: str) -> list[str]:
    """The classes of each batch in turn, sorted within the batch. `samples` is in the order of the batches."""
    seen = samples[["batch", target]].dropna()
    order: dict[str, None] = {}
    for batch in seen["batch"].unique():
        order.update(dict.fromkeys(sorted(seen.loc[seen["batch"] == batch, target].unique())))
    return list(order)
