"""The measures of several labels a sample: mean average precision, F1 and the calibration of each label."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.metrics.answered import Answered
from tasks.metrics.bootstrap import Measures, ratio
from tasks.metrics.calibration import bins_of
from tasks.targets.several import Several
from tasks.targets.target import Target, Truths

Array = NDArray[np.float64]


def measures(answered: Answered, truths: Truths, *, num_bins: int) -> Measures:
    """Return the function that measures these probabilities (n, num_labels); truths (n, num_labels).

    `mean_average_precision` and `macro_f1` are means over the labels that have samples. F1 is that of the answered
    labels, at the model's thresholds. `all_right` is the share of samples with every label right, `hamming` that of
    wrong labels. `calibration_error` is the mean over the labels of the distance between their probabilities, in bins,
    and how often they are true.
    """
    said, is_true = said_and_true(answered, truths)
    wrong = (said != is_true).mean(axis=1)

    def measured(weights: Array) -> dict[str, Array]:
        total = weights.sum(axis=1, keepdims=True)  # (r, 1)
        hits, num_said, num = weights @ (said & is_true), weights @ said, weights @ is_true  # (r, num_labels)
        precisions = average_precisions(answered.answers, is_true, weights)
        return {
            "mean_average_precision": mean_of_present(precisions, num),
            "macro_f1": mean_of_present(ratio(2 * hits, num_said + num), num),
            "micro_f1": ratio(2 * hits.sum(axis=1), (num_said + num).sum(axis=1)),
            "hamming": ratio(weights @ wrong, total[:, 0]),
            "all_right": ratio(weights @ (wrong == 0), total[:, 0]),
            "calibration_error": calibration_errors(answered.answers, is_true, weights, num_bins=num_bins).mean(axis=1),
        }

    return measured


def details(answered: Answered, truths: Truths) -> dict[str, Any]:
    """Return the measures of each label; None for a measure that a label without samples does not have."""
    target = answered.target
    assert isinstance(target, Several)
    said, is_true = said_and_true(answered, truths)
    precision = average_precisions(answered.answers, is_true, np.ones((1, len(truths))))[0]
    hits, num_said, num = (said & is_true).sum(axis=0), said.sum(axis=0), is_true.sum(axis=0)
    thresholds = target.thresholds or (0.5,) * len(target.names)
    return {
        "labels": {
            name: {
                "average_precision": float(precision[column]) if num[column] else None,
                "f1": float(2 * hits[column] / (num_said[column] + num[column])) if num[column] else None,
                "threshold": thresholds[column],
                "num": int(num[column]),
            }
            for column, name in enumerate(target.names)
        }
    }


def parts(truths: Truths, target: Target) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the labels that have samples, and which samples (n,) have them; a sample may be in several parts."""
    for column, name in enumerate(target.names):
        has_label = truths[:, column] > 0.5
        if has_label.any():
            yield name, has_label


def said_and_true(answered: Answered, truths: Truths) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return (n, num_labels) twice: whether each label is answered, and whether it is true."""
    assert isinstance(answered.target, Several)
    return answered.target.said(answered.answers), truths > 0.5


def mean_of_present(values: Array, num: Array) -> Array:
    """Return the mean (r,) of values (r, num_labels) over the labels with samples, NaN where none has any."""
    return ratio(np.where(num > 0, values, 0).sum(axis=1), (num > 0).sum(axis=1))


def average_precisions(probabilities: Array, is_true: NDArray[np.bool_], weights: Array) -> Array:
    """Return the average precision (r, num_labels) of each label: the area under its steps of precision and recall.

    It is 0 for a label without samples. Samples (n,) of one probability are one step.

    Args:
        probabilities, is_true: (n, num_labels)
        weights: (r, n), how often each sample counts
    """
    precisions = np.zeros((len(weights), probabilities.shape[1]))
    for column in range(probabilities.shape[1]):
        order = np.argsort(-probabilities[:, column], kind="stable")
        ranked = probabilities[order, column]
        ends = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))
        counts = weights[:, order]
        hits = np.cumsum(counts * is_true[order, column], axis=1)[:, ends]  # (r, num_ends)
        precision = np.nan_to_num(ratio(hits, np.cumsum(counts, axis=1)[:, ends]))
        gained = np.diff(hits, axis=1, prepend=0)
        precisions[:, column] = np.nan_to_num(ratio((gained * precision).sum(axis=1), hits[:, -1]))
    return precisions


def calibration_errors(probabilities: Array, is_true: NDArray[np.bool_], weights: Array, *, num_bins: int) -> Array:
    """Return the expected calibration error (r, num_labels) of each label (Naeini et al. 2015)."""
    errors = np.zeros((len(weights), probabilities.shape[1]))
    total = weights.sum(axis=1)
    for column in range(probabilities.shape[1]):
        p = probabilities[:, column]
        gaps = np.zeros((len(p), num_bins))
        gaps[np.arange(len(p)), bins_of(p, num_bins=num_bins)] = p - is_true[:, column]
        errors[:, column] = np.nan_to_num(ratio(np.abs(weights @ gaps).sum(axis=1), total))
    return errors
