"""Measure whether a classifier is right as often as its confidence promises."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.targets.classes import is_right


def reliability(
    *, labels: NDArray[np.int64], probabilities: NDArray[np.float64], num_bins: int
) -> tuple[pd.DataFrame, float]:
    """Return the reliability table and the expected calibration error (Naeini et al. 2015; Guo et al. 2017).

    Args:
        labels: (n,)
        probabilities: (n, num_classes)
        num_bins: bins of equal width

    Returns:
        A table with one row per bin that has samples: confidence (mean), accuracy, count. And the error, 0..1.
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
    """Return the bin of each confidence (n,) in 0..1; the bins have equal width and are numbered from 0."""
    return np.minimum((confidence * num_bins).astype(np.int64), num_bins - 1)


def squared_errors(*, labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared distance (n,), in 0..2, of probabilities (n, num_classes) to the truth.

    Its mean is the Brier score (Brier 1950).
    """
    of_label = probabilities[np.arange(len(labels)), labels]
    return np.asarray((probabilities**2).sum(axis=1) - 2 * of_label + 1)
