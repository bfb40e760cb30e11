"""Results of several seeds in, their mean and its interval out."""

import math
import statistics
from collections.abc import Sequence

from scipy.stats import t

CONFIDENCE = 0.95


def mean_and_half_width(values: Sequence[float]) -> tuple[float, float | None]:
    """Of the mean's interval, by the t distribution; None of a single value, which has no spread."""
    n = len(values)
    if n < 2:
        return statistics.mean(values), None
    factor = float(t.ppf((1 + CONFIDENCE) / 2, n - 1))
    return statistics.mean(values), factor * statistics.stdev(values) / math.sqrt(n)
