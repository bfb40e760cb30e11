"""Estimate by the bootstrap how far chance alone could move measures, which are functions of the samples' weights."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.metrics.accuracy import wilson

Array = NDArray[np.float64]
Measures = Callable[[Array], dict[str, Array]]  # weights (r, n), how often each sample counts -> measures (r,) by name

SHARES = ("accuracy", "all_right", "coverage", "within_tolerance")  # the measures that are shares of the samples
AT_ONCE = 2**21  # weights in memory
MOST_VALUES = 3 * 10**8  # of all resamples of the answers; thousands of labels have fewer resamples
FEWEST = 100  # resamples


def measure_once(measures: Measures, *, n: int) -> dict[str, float | None]:
    """Return the measures of n samples, each of which counts once; None where a measure has no value."""
    values = {name: float(value[0]) for name, value in measures(np.ones((1, n))).items()}
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def intervals_of(
    measures: Measures,
    measured: Mapping[str, float | None],
    *,
    n: int,
    num_outputs: int,
    confidence: float,
    num_resamples: int,
    generator: np.random.Generator,
    groups: NDArray[np.int64] | None = None,
    design_effect: float | None = None,
) -> dict[str, tuple[float, float]]:
    """Return a confidence interval for each of the `measured` values of n samples.

    The intervals are percentiles of the Poisson bootstrap (Hanley & MacGibbon 2006), which counts every sample a random
    number of times. There are two exceptions:
    - calibration error: noise alone raises it in a resample, so its interval is shifted until its median is the
      measured error;
    - shares: their interval is Wilson's, because resamples of answers that are all right have no error at all.

    Args:
        num_outputs: numbers in the answer to a sample, by which the time of a resample grows.
        groups: (n,), the number of each sample's group, from 0; whole groups are counted. None for no groups.
        design_effect: the factor by which groups raise the variance of a share; None if one is right or wrong whole.
    """
    num_groups = n if groups is None else int(groups.max()) + 1
    if design_effect is None:
        design_effect = 1.0 if groups is None else float((np.bincount(groups) ** 2).sum() / n)
    num = min(num_resamples, max(MOST_VALUES // (n * num_outputs), FEWEST))
    at_once = max(AT_ONCE // n, 1)
    drawn: list[dict[str, Any]] = []
    for start in range(0, num, at_once):
        weights = generator.poisson(1.0, (min(at_once, num - start), num_groups)).astype(float)
        drawn.append(measures(weights if groups is None else weights[:, groups]))
    ends = {}
    for name, value in measured.items():
        if value is None:
            continue
        resampled = np.concatenate([part[name] for part in drawn])
        if name == "calibration_error":
            resampled = np.maximum(resampled + value - np.nanmedian(resampled), 0)
        low, high = np.nanquantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
        ends[name] = (
            wilson(round(value * n), n, confidence=confidence, design_effect=design_effect)
            if name in SHARES
            else (float(low), float(high))
        )
    return ends


def ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Array:
    """Return numerator / denominator, NaN where the denominator is 0."""
    divisible = denominator > 0
    return np.where(divisible, numerator / np.where(divisible, denominator, 1), np.nan)
