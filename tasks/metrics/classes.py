"""The measures of classes that change from resample to resample: F1, log-loss, Brier score and calibration error."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from tasks.metrics.accuracy import SMALLEST
from tasks.metrics.bootstrap import Array, Measures, ratio
from tasks.metrics.calibration import bins_of, squared_errors
from tasks.targets.classes import likeliest


def measures(labels: NDArray[np.int64], probabilities: Array, *, num_bins: int) -> Measures:
    """Return the function that measures probabilities (n, num_classes); labels (n,).

    `macro_f1` is the mean over the classes that have samples. `log_loss` is in nats, `calibration_error` in 0..1.
    """
    n, num_classes = probabilities.shape
    predicted, confidence = likeliest(probabilities), probabilities.max(axis=1)
    is_right = predicted == labels
    of_label = np.maximum(probabilities[np.arange(n), labels], SMALLEST)
    means = np.stack([is_right, -np.log(of_label), squared_errors(labels=labels, probabilities=probabilities)], axis=1)

    def in_columns(columns: NDArray[np.int64], values: NDArray[np.floating], num: int) -> csr_array:
        return csr_array((values, (np.arange(n), columns)), shape=(n, num))

    hits = in_columns(labels, is_right.astype(float), num_classes)
    counts = in_columns(labels, np.ones(n), num_classes) + in_columns(predicted, np.ones(n), num_classes)
    is_of = in_columns(labels, np.ones(n), num_classes)
    gaps = in_columns(bins_of(confidence, num_bins=num_bins), confidence - is_right, num_bins)

    def measured(weights: Array) -> dict[str, Array]:
        total = weights.sum(axis=1, keepdims=True)  # (r, 1)
        accuracy, log_loss, brier = ratio(weights @ means, total).T
        is_present = weights @ is_of > 0  # (r, num_classes)
        f1 = 2 * (weights @ hits) / np.maximum(weights @ counts, 1)
        return {
            "accuracy": accuracy,
            "macro_f1": ratio((f1 * is_present).sum(axis=1), is_present.sum(axis=1)),
            "log_loss": log_loss,
            "brier": brier,
            "calibration_error": ratio(np.abs(weights @ gaps).sum(axis=1), total[:, 0]),
        }

    return measured
