"""Whether a difference between two classifiers on the same samples is more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binom, ttest_1samp

POWER = 0.8  # of a rule, for the smallest effect that counts as detectable


@dataclass(frozen=True, kw_only=True)
class Flips:
    """negative: the baseline was right, the candidate is wrong; positive: the other way round; of `num_samples`.

    p_value: of the one-sided exact McNemar test (McNemar 1947) that the candidate is worse: how likely so many of the
    flips are negative where both are equally good.
    """

    negative: int
    positive: int
    num_samples: int
    p_value: float


def compare(*, candidate: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> Flips:
    """candidate, baseline: (n,) whether each is right on the same samples."""
    negative = int((baseline & ~candidate).sum())
    positive = int((candidate & ~baseline).sum())
    return Flips(negative=negative, positive=positive, num_samples=len(candidate), p_value=mcnemar(negative, positive))


def mcnemar(negative: int, positive: int) -> float:
    """The one-sided exact p-value that more flips are negative than chance makes them."""
    return float(binom.sf(negative - 1, negative + positive, 0.5))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted so that the chance of any false alarm among them all is what one p-value promises (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(
        np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)), 1.0
    )
    return [float(each) for each in adjusted]


def smallest_detectable_loss(flips: Flips, *, significance: float) -> float:
    """The least true loss of accuracy, 0..1, that the McNemar test would find with the probability POWER among as many
    flips as there were; among more where so few cannot show any. 1 where the samples are too few for any loss."""
    for num_flips in range(max(flips.negative + flips.positive, 1), flips.num_samples + 1):
        # the number of negative flips from which on the test rejects
        critical = int(binom.isf(significance, num_flips, 0.5)) + 1
        if critical > num_flips:
            continue
        shares = np.linspace(0.5, 1.0, 501)
        is_found = binom.sf(critical - 1, num_flips, shares) >= POWER
        return float((2 * shares[is_found.argmax()] - 1) * num_flips / flips.num_samples)
    return 1.0


def smallest_detectable_shortfall(least: float, *, num_samples: int, margin: float = 0.0) -> float:
    """How far below its floor a true share, 0..1, must be to be found below least + margin with the probability POWER: the
    exact binomial, inverted (Clopper & Pearson 1934)."""
    fewest = ceil(round((least + margin) * num_samples, 9))  # hits that pass
    if fewest > num_samples:
        return 0.0
    return max(least - (float(beta.ppf(1 - POWER, fewest, num_samples - fewest + 1)) if fewest else 0.0), 0.0)


def smallest_detectable_excess(ceiling: float, *, num_samples: int) -> float:
    """How far above its ceiling a true share, 0..1, must be to be found above it with the probability POWER."""
    fewest = floor(round(ceiling * num_samples, 9)) + 1  # hits that fail
    if fewest > num_samples:
        return 1 - ceiling
    return float(beta.ppf(POWER, fewest, num_samples - fewest + 1)) - ceiling


def paired_t_test(differences: NDArray[np.float64]) -> float:
    """The one-sided paired t-test (Student 1908): how likely so large a mean of (n,) differences is where the true one is zero or
    below. 1 where there are too few to tell."""
    if len(differences) < 2 or not np.ptp(differences):
        return 1.0
    return float(ttest_1samp(differences, 0.0, alternative="greater").pvalue)
