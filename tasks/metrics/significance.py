"""Test whether a difference between two classifiers on the same samples is more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binom, ttest_1samp

POWER = 0.8  # a rule detects the smallest detectable effect with this probability


@dataclass(frozen=True, kw_only=True)
class Flips:
    """The answers, out of `num_samples`, that one of two models has right and the other has wrong.

    negative: the baseline is right, the candidate is wrong. positive: the other way round.

    p_value: the result of the one-sided exact McNemar test (McNemar 1947) that the candidate is worse. It is the
    probability that so many of the flips are negative if both models are equally good.
    """

    negative: int
    positive: int
    num_samples: int
    p_value: float


def compare(*, candidate: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> Flips:
    """Count the flips. `candidate` and `baseline`, (n,), state for the same samples whether each model is right."""
    negative = int((baseline & ~candidate).sum())
    positive = int((candidate & ~baseline).sum())
    return Flips(negative=negative, positive=positive, num_samples=len(candidate), p_value=mcnemar(negative, positive))


def mcnemar(negative: int, positive: int) -> float:
    """Return the one-sided exact p-value that more flips are negative than chance explains."""
    return float(binom.sf(negative - 1, negative + positive, 0.5))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return adjusted p-values: the chance of any false alarm among all is that of a single test (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(
        np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)), 1.0
    )
    return [float(p_value) for p_value in adjusted]


def smallest_detectable_loss(flips: Flips, *, significance: float) -> float:
    """Return the smallest true loss of accuracy, 0..1, that the McNemar test would detect with the probability POWER.

    The number of flips is assumed to stay the same, or to be larger if so few flips cannot show any loss. Return 1 if
    there are too few samples to show any loss.
    """
    for num_flips in range(max(flips.negative + flips.positive, 1), flips.num_samples + 1):
        # the test rejects from this number of negative flips on
        critical = int(binom.isf(significance, num_flips, 0.5)) + 1
        if critical > num_flips:
            continue
        shares = np.linspace(0.5, 1.0, 501)
        is_detected = binom.sf(critical - 1, num_flips, shares) >= POWER
        return float((2 * shares[is_detected.argmax()] - 1) * num_flips / flips.num_samples)
    return 1.0


def smallest_detectable_shortfall(least: float, *, num_samples: int, margin: float = 0.0) -> float:
    """Return how far below its floor `least` a true share, 0..1, must be to be detected with the probability POWER.

    It is detected if the measured share is below least + margin. This is the inverse of the exact binomial (Clopper &
    Pearson 1934).
    """
    fewest = ceil(round((least + margin) * num_samples, 9))  # hits that pass
    if fewest > num_samples:
        return 0.0
    return max(least - (float(beta.ppf(1 - POWER, fewest, num_samples - fewest + 1)) if fewest else 0.0), 0.0)


def smallest_detectable_excess(ceiling: float, *, num_samples: int) -> float:
    """Return how far above its ceiling a true share, 0..1, must be to be detected with the probability POWER."""
    fewest = floor(round(ceiling * num_samples, 9)) + 1  # hits that fail
    if fewest > num_samples:
        return 1 - ceiling
    return float(beta.ppf(POWER, fewest, num_samples - fewest + 1)) - ceiling


def paired_t_test(differences: NDArray[np.float64]) -> float:
    """Return the p-value of the one-sided paired t-test (Student 1908).

    It is the probability of so large a mean of the differences (n,) if the true mean is zero or less. Return 1 if there
    are too few differences, or if all are equal.
    """
    if len(differences) < 2 or not np.ptp(differences):
        return 1.0
    return float(ttest_1samp(differences, 0.0, alternative="greater").pvalue)
