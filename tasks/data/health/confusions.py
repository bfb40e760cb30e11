"""Find the classes that a head on the frozen backbone confuses, before anything is fine-tuned."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_PAIRS = 10


def confusions(
    labels: NDArray[np.int64], log_probabilities: NDArray[np.float64], *, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the pairs of classes that are mistaken for each other most often, in either direction.

    Args:
        labels: (n,) in 0..num_classes-1.
        log_probabilities: (n, num_classes) of samples that the head did not learn from.

    Returns:
        At most MOST_PAIRS, each with the names `one` and `other`, the number `num` of samples that are mistaken for the
        other class, and their `share` of both classes' samples.
    """
    answers = log_probabilities.argmax(axis=1)
    is_wrong = answers != labels
    pairs = np.sort(np.stack([labels[is_wrong], answers[is_wrong]], axis=1), axis=1)
    found, nums = np.unique(pairs, axis=0, return_counts=True)
    counts = np.bincount(labels, minlength=len(names))
    return [
        {
            "one": names[one], "other": names[other], "num": int(num),
            "share": float(num / (counts[one] + counts[other])),
        }
        for (one, other), num in sorted(zip(found.tolist(), nums, strict=True), key=lambda pair: -pair[1])[:MOST_PAIRS]
    ]  # fmt: skip
