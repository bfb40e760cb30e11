"""The kind `classes`: exactly one class a sample."""

from collections.abc import Sequence

import pandas as pd

MISSING = -1  # the index of a label that a sample does not have; cross_entropy leaves it out


def label_indices(labels: pd.Series, classes: Sequence[str]) -> list[int]:
    """The index of each label in `classes`; MISSING where there is none. Raises ValueError for another class."""
    index = {name: position for position, name in enumerate(classes)}
    unknown = sorted(set(labels.dropna()) - set(index))
    if unknown:
        raise ValueError(
            f"the manifest has class {unknown[0]!r}, expected one of {', '.join(classes)}: train the head again"
        )
    return [MISSING if pd.isna(label) else index[label] for label in labels]
