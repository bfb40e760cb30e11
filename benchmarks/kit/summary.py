"""The mean of the results of several seeds, and its interval."""

import math
import statistics
from collections.abc import Sequence

from scipy.stats import t

CONFIDENCE = 0.95


def mean_and_half_width(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the half width of its interval, by the t distribution; None for a single value."""
    n = len(values)
    if n < 2:
        return statistics.mean(values), None
    factor = float(t.ppf((1 + CONFIDENCE) / 2, n - 1))
    return statistics.mean(values), factor * statistics.stdev(values) / math.sqrt(n)
