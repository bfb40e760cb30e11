"""Whether a difference between two classifiers on the same samples is more than chance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, ttest_1samp


@dataclass(frozen=True, kw_only=True)
class Flips:
    """negative: the baseline was right, the candidate is wrong; positive: the other way round.

    p_value: of the one-sided exact McNemar test (McNemar 1947) that the candidate is worse: how likely so many of the
    flips are negative where both are equally good.
    """

    negative: int
    positive: int
    p_value: float


def compare(*, candidate: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> Flips:
    """candidate, baseline: (n,) whether each is right on the same samples."""
    negative = int((baseline & ~candidate).sum())
    positive = int((candidate & ~baseline).sum())
    flips = negative + positive
    p_value = float(binomtest(negative, flips, 0.5, alternative="greater").pvalue) if flips else 1.0
    return Flips(negative=negative, positive=positive, p_value=p_value)


def paired_t_test(differences: NDArray[np.float64]) -> float:
    """The one-sided paired t-test (Student 1908): how likely so large a mean of (n,) differences is where the true one is zero or
    below. 1 where there are too few to tell."""
    if len(differences) < 2 or not np.ptp(differences):
        return 1.0
    return float(ttest_1samp(differences, 0.0, alternative="greater").pvalue)
