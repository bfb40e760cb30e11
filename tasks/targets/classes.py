"""The kind `classes`: exactly one class a sample. Softmax, the likeliest class and "is right" stand here."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MISSING = -1  # the index of a label that a sample does not have; cross_entropy leaves it out

Floats = NDArray[Any]  # of floating point


def label_indices(labels: pd.Series, classes: Sequence[str]) -> list[int]:
    """Return the index of each label in `classes`; MISSING where there is none. Raises ValueError for another class."""
    index = {name: position for position, name in enumerate(classes)}
    unknown = sorted(set(labels.dropna()) - set(index))
    if unknown:
        raise ValueError(
            f"the manifest has class {unknown[0]!r}, expected one of {', '.join(classes)}: train the head again"
        )
    return [MISSING if pd.isna(label) else index[label] for label in labels]


def probabilities(logits: Floats, *, temperature: float) -> NDArray[np.float64]:
    """Return the calibrated probabilities (n, num_classes) of logits (n, num_classes)."""
    with np.errstate(over="ignore", invalid="ignore"):  # values that are not finite stay; the caller reports them
        scaled = logits.astype(np.float64) / temperature
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def log_probabilities(logits: Floats) -> Floats:
    """Return the logarithms (n, num_classes) of the probabilities of logits (n, num_classes), in their precision."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def losses(logits: Floats, labels: NDArray[np.int64]) -> Floats:
    """Return the cross-entropy (n,) in nats of logits (n, num_classes) with labels (n,)."""
    return np.asarray(-log_probabilities(logits)[np.arange(len(labels)), labels])


def likeliest(scores: Floats) -> NDArray[np.intp]:
    """Return the index (n,) of the class with the highest logit or probability (n, num_classes)."""
    return np.asarray(scores.argmax(axis=1))


def is_right(scores: Floats, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether the likeliest class of each sample is its label: (n, num_classes) and (n,) -> (n,)."""
    return np.asarray(likeliest(scores) == labels)
