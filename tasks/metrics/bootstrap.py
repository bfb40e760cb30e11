"""Estimate by the bootstrap how far chance alone could have moved each metric."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.metrics.accuracy import SMALLEST, design_effect, wilson
from tasks.metrics.calibration import bins_of, reliability, squared_errors
from tasks.targets.classes import is_right, likeliest

Array = NDArray[np.float64]

MEANS = ("log_loss", "brier")  # the metrics that are means over the samples
CHUNK = 1024  # samples whose weights are drawn together


def intervals(
    *,
    labels: NDArray[np.int64],
    probabilities: Array,
    num_bins: int,
    confidence: float,
    num_resamples: int,
    generator: np.random.Generator,
    groups: NDArray[np.int64] | None = None,
) -> dict[str, tuple[float, float]]:
    """Return a confidence interval for each metric.

    The intervals are percentiles of the Poisson bootstrap (Hanley & MacGibbon 2006), which counts every sample a random
    number of times. There are two exceptions:
    - calibration error: noise alone raises it in a resample, so its interval is shifted until its median is the
      measured error;
    - accuracy: its interval is Wilson's, because resamples of answers that are all right have no error at all.

    Args:
        labels: (n,)
        probabilities: (n, num_classes)
        num_bins: bins of the calibration error
        groups: (n,), the number of each sample's group, from 0; whole groups are counted. None for no groups.

    Returns:
        The low and the high end by metric: accuracy, macro_f1, log_loss (nats), brier, calibration_error.
    """
    sums = resampled_sums(
        labels, probabilities, num_bins, num_resamples=num_resamples, generator=generator, groups=groups
    )
    _, error = reliability(labels=labels, probabilities=probabilities, num_bins=num_bins)
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    resampled = metrics_of(sums)
    resampled["calibration_error"] = np.maximum(
        resampled["calibration_error"] + error - np.median(resampled["calibration_error"]), 0
    )
    hits = is_right(probabilities, labels)
    effect = design_effect(hits, groups)
    accuracy = wilson(int(hits.sum()), len(labels), confidence=confidence, design_effect=effect)
    return {"accuracy": accuracy} | {
        name: (float(low), float(high))
        for name, values in resampled.items()
        for low, high in [np.nanquantile(values, tails)]
    }


def resampled_sums(
    labels: NDArray[np.int64],
    probabilities: Array,
    num_bins: int,
    *,
    num_resamples: int,
    generator: np.random.Generator,
    groups: NDArray[np.int64] | None = None,
) -> dict[str, Array]:
    """Return the sums that the metrics of each resample are computed from.

    They are (num_resamples, 1), (num_resamples, num_classes) or (num_resamples, num_bins).
    """
    n, num_classes = probabilities.shape
    predicted, confidence = likeliest(probabilities), probabilities.max(axis=1)
    is_right = predicted == labels
    columns = {  # the column (n,) that a sample adds to, the number of columns, and the value (n,) that it adds
        "count": (np.zeros(n, int), 1, np.ones(n)),
        "log_loss": (np.zeros(n, int), 1, -np.log(np.maximum(probabilities[np.arange(n), labels], SMALLEST))),
        "brier": (np.zeros(n, int), 1, squared_errors(labels=labels, probabilities=probabilities)),
        "gap": (bins_of(confidence, num_bins=num_bins), num_bins, confidence - is_right),
        "hits": (labels, num_classes, is_right.astype(float)),
        "actual": (labels, num_classes, np.ones(n)),
        "predicted": (predicted, num_classes, np.ones(n)),
    }
    sums = {name: np.zeros((num_resamples, size)) for name, (_, size, _) in columns.items()}
    if groups is not None:  # those of one chunk keep together
        order = np.argsort(groups, kind="stable")
        columns = {name: (column[order], size, value[order]) for name, (column, size, value) in columns.items()}
    for part, members in chunks(n, groups):
        start, num_drawn = part.start, part.stop - part.start if members is None else int(members.max()) + 1
        weights = generator.poisson(1.0, (num_resamples, num_drawn)).astype(float)
        if members is not None:
            weights = weights[:, members]
        for name, (column, size, value) in columns.items():
            spread = np.zeros((part.stop - start, size))
            spread[np.arange(len(spread)), column[part]] = value[part]
            sums[name] += weights @ spread
    return sums


def chunks(n: int, groups: NDArray[np.int64] | None) -> Iterator[tuple[slice, NDArray[np.int64] | None]]:
    """Yield parts of about CHUNK of the n samples, in the order of their groups, and each one's group, from 0.

    A group is in one part.
    """
    ordered = None if groups is None else np.sort(groups, kind="stable")
    start = 0
    while start < n:
        stop = min(start + CHUNK, n)
        if ordered is None:
            yield slice(start, stop), None
        else:
            stop = int(np.searchsorted(ordered, ordered[stop - 1], side="right"))
            yield slice(start, stop), np.unique(ordered[start:stop], return_inverse=True)[1]
        start = stop


def metrics_of(sums: Mapping[str, Array]) -> dict[str, Array]:
    """Return the metrics of each resample, (num_resamples,), by name."""
    count = np.maximum(sums["count"][:, 0], 1)
    is_present = sums["actual"] > 0
    f1 = 2 * sums["hits"] / np.maximum(sums["actual"] + sums["predicted"], 1)
    means: dict[str, Any] = {name: sums[name][:, 0] / count for name in MEANS}
    return means | {
        "macro_f1": (f1 * is_present).sum(axis=1) / np.maximum(is_present.sum(axis=1), 1),
        "calibration_error": np.abs(sums["gap"]).sum(axis=1) / count,
    }
