"""Whether a classifier is right as often as it says: probabilities in, the reliability of its confidence out."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.targets.classes import is_right


def reliability(
    *, labels: NDArray[np.int64], probabilities: NDArray[np.float64], num_bins: int
) -> tuple[pd.DataFrame, float]:
    """The reliability table and the expected calibration error (Naeini et al. 2015; Guo et al. 2017).

    Args:
        labels: (n,); probabilities: (n, num_classes).

    Returns:
        A row a bin of equal width that holds samples: confidence (mean), accuracy, count; and the error in 0..1.
    """
    confidence = probabilities.max(axis=1)
    hits = is_right(probabilities, labels)
    bins = bins_of(confidence, num_bins=num_bins)
    table = (
        pd.DataFrame({"bin": bins, "confidence": confidence, "accuracy": hits.astype(float)})
        .groupby("bin")
        .agg(confidence=("confidence", "mean"), accuracy=("accuracy", "mean"), count=("accuracy", "size"))
        .reset_index(drop=True)
    )
    gaps = (table["confidence"] - table["accuracy"]).abs()
    return table, float((gaps * table["count"]).sum() / len(labels))


def bins_of(confidence: NDArray[np.float64], *, num_bins: int) -> NDArray[np.int64]:
    """(n,) in 0..1 -> the number of each one's bin, of equal width."""
    return np.minimum((confidence * num_bins).astype(np.int64), num_bins - 1)


def squared_errors(*, labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) in 0..2: the squared distance of (n, num_classes) probabilities to the truth, whose mean is the Brier score (Brier 1950)."""
    of_label = probabilities[np.arange(len(labels)), labels]
    return np.asarray((probabilities**2).sum(axis=1) - 2 * of_label + 1)
