"""Measure how often and how surely a classifier is right: accuracy, F1, log loss and recall."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from tasks.metrics.distributions import normal_quantile
from tasks.metrics.significance import telling_size
from tasks.targets.classes import likeliest

FEWEST_GROUPS = 30  # whose variance is estimated
Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]

SMALLEST = 1e-15  # probability; it keeps the log loss of a class that a model does not know finite


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """The measures of how often, and how surely, a classifier is right."""

    accuracy: float  # 0..1
    macro_f1: float
    log_loss: float  # nats
    recall: Probabilities  # (num_classes,), NaN for a class without samples


def measure_accuracy(*, labels: Labels, probabilities: Probabilities) -> Accuracy:
    """Measure labels (n,) in 0..num_classes-1 against probabilities (n, num_classes).

    Raises ValueError if there are no samples.
    """
    n, num_classes = probabilities.shape
    if n == 0:
        raise ValueError("there are no held-out samples: add data, or raise validate.heldout_fraction")
    predicted = likeliest(probabilities)
    is_right = predicted == labels
    counts = np.bincount(labels, minlength=num_classes)
    hits = np.bincount(labels[is_right], minlength=num_classes)
    answered = np.bincount(predicted, minlength=num_classes)
    present = counts > 0
    return Accuracy(
        accuracy=float(is_right.mean()),
        macro_f1=float((2.0 * hits[present] / (counts + answered)[present]).mean()),
        log_loss=float(-np.log(np.maximum(probabilities[np.arange(n), labels], SMALLEST)).mean()),
        recall=np.where(counts > 0, hits / np.maximum(counts, 1), np.nan),
    )


def wilson(hits: int, n: int, *, confidence: float, design_effect: float = 1.0) -> tuple[float, float]:
    """Return both ends of the confidence interval of a share (Wilson 1927).

    Samples that come in groups count as fewer, by the design effect (Korn & Graubard 1998).
    """
    fewer = max(round(n / design_effect), 1)
    share = min(round(hits / design_effect), fewer) / fewer
    z = normal_quantile(0.5 + 0.5 * confidence)
    double = 2 * (fewer + z**2)
    centre, half = (2 * fewer * share + z**2) / double, z / double * sqrt(4 * fewer * share * (1 - share) + z**2)
    return centre - half if share > 0 else 0.0, centre + half if share < 1 else 1.0


def design_effect(hits: NDArray[np.bool_], groups: NDArray[np.int64] | None) -> float:
    """Return the factor by which groups raise the variance of the share of hits (n,), at least 1 (Rao & Scott 1992).

    One group of the `telling_size` that agrees wholly is added. Where the samples would fill fewer than FEWEST_GROUPS
    of that size, the variance is not known, and they count as so many groups, each right or wrong as a whole.

    Args:
        groups: (n,), the number of each sample's group, from 0; None where each sample is a group of its own.
    """
    if groups is None or not len(hits):
        return 1.0
    size, rests = telling_size(groups), hits - hits.mean()
    if len(hits) < FEWEST_GROUPS * size:
        return size
    between = float((np.bincount(groups, weights=rests) ** 2).sum()) + size**2
    return max(between / (float((rests**2).sum()) + size), 1.0)
