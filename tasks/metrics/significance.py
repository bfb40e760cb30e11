"""Test whether a difference between two models on the same samples is more than chance."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil, floor, log2, sqrt

import numpy as np
from numpy.typing import NDArray

from tasks.metrics.distributions import (
    heads,
    least_hits,
    more_hits,
    normal_quantile,
    share_quantile,
    t_above,
    t_exceeded,
)

POWER = 0.8  # a rule detects the smallest detectable effect with this probability
EQUAL = 1e-5  # of the mean error: other processors and orders of a sum change float32 by less
LEAST_FOR_T = 30  # differences other than zero; of fewer, all signs are tried


@dataclass(frozen=True, kw_only=True)
class Flips:
    """The answers, out of `num_samples`, that one of two models has right and the other has wrong.

    negative: the baseline is right, the candidate is wrong. positive: the other way round.

    p_value: the result of the one-sided exact McNemar test (McNemar 1947) that the candidate is worse. It is the
    probability that so many of the flips are negative if both models are equally good. Where samples come in groups,
    the signs of whole groups are flipped instead.

    design_effect: the factor by which the groups raise the variance; so many samples are worth one.
    """

    negative: int
    positive: int
    num_samples: int
    p_value: float
    design_effect: float = 1.0

    def smallest_detectable(self, *, significance: float) -> float:
        """Return the smallest loss of accuracy, 0..1, that the test would detect."""
        return smallest_detectable_loss(self, significance=significance)


@dataclass(frozen=True, kw_only=True)
class ErrorChange:
    """The differences between the errors of the candidate and the baseline on the same samples, in the target's unit.

    mean, deviation: of the differences candidate - baseline, (num_samples,); 0 where there are none.

    num_different: the differences other than zero. Where samples come in groups, those of groups.

    p_value: the result of the one-sided paired test that the candidate is worse (see `paired_test`).
    """

    mean: float
    deviation: float
    num_different: int
    num_samples: int
    p_value: float

    def smallest_detectable(self, *, significance: float) -> float | None:
        """Return the smallest rise of the mean error that the test would detect with the probability POWER.

        The deviation is assumed to stay the same, or to be larger if so few differences cannot show any rise. The
        noncentral t is approximated (Johnson & Welch 1940). None if no answer differs, or for too few samples.
        """
        fewest = floor(log2(1 / significance)) + 1  # differences that the sign-flip test needs
        if not self.deviation or self.num_samples < max(fewest, 2):
            return None
        freedom = self.num_samples - 1
        critical = t_exceeded(significance, freedom)
        spread = normal_quantile(POWER) * sqrt(1 + critical**2 / (2 * freedom))
        by_t = (critical * (1 - 1 / (4 * freedom)) + spread) * self.deviation / sqrt(self.num_samples)
        usual = self.deviation * sqrt(self.num_samples / self.num_different)  # size of a difference
        if self.num_different < LEAST_FOR_T:
            by_t += usual / self.num_samples  # a sum of few signs moves in steps, of which a half is lost
        return max(by_t, fewest * usual / self.num_samples)


def compare(
    *, candidate: NDArray[np.bool_], baseline: NDArray[np.bool_], groups: NDArray[np.int64] | None = None
) -> Flips:
    """Count the flips. `candidate` and `baseline`, (n,), state for the same samples whether each model is right.

    groups: (n,), the number of each sample's group, from 0; None where each sample is a group of its own.
    """
    negative = int((baseline & ~candidate).sum())
    positive = int((candidate & ~baseline).sum())
    counts = {"negative": negative, "positive": positive, "num_samples": len(candidate)}
    if groups is None:
        return Flips(**counts, p_value=mcnemar(negative, positive))
    sums = by_group(baseline.astype(float) - candidate, groups)
    effect = max(float((sums**2).sum()) / max(negative + positive, 1), 1.0)
    return Flips(**counts, p_value=sign_flips_of_counts(sums), design_effect=effect)


def compare_errors(
    *, candidate: NDArray[np.float64], baseline: NDArray[np.float64], groups: NDArray[np.int64] | None = None
) -> ErrorChange:
    """Compare the errors (n,) of two models on the same samples; those that differ in their last bits are equal."""
    return compare_errors_by(differences(candidate=candidate, baseline=baseline), groups=groups)


def compare_errors_by(losses: NDArray[np.float64], *, groups: NDArray[np.int64] | None) -> ErrorChange:
    """Compare two models by `losses` (n,), the candidate's errors minus the other's.

    Where samples come in groups, the sums of groups are tested, and `deviation` is that of a sample that is alone.
    """
    n = len(losses)
    sums = losses if groups is None else by_group(losses, groups)
    spread = float(sums.std(ddof=1)) if len(sums) > 1 and np.ptp(sums) else 0.0
    return ErrorChange(
        mean=float(losses.mean()) if n else 0.0,
        deviation=spread if len(sums) == n else spread * sqrt(len(sums) / n),
        num_different=int(np.count_nonzero(sums)),
        num_samples=n,
        p_value=paired_test(sums),
    )


def differences(*, candidate: NDArray[np.float64], baseline: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the candidate's errors minus the baseline's (n,); 0 where only their last bits differ."""
    least = EQUAL * float(baseline.mean()) if len(baseline) else 0.0
    return np.where(np.abs(candidate - baseline) > least, candidate - baseline, 0.0)


def by_group(values: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the sum of the values (n,) in each group."""
    return np.bincount(groups, weights=values).astype(np.float64)


def telling_size(groups: NDArray[np.int64]) -> float:
    """Return the size of a group that may decide alone: the mean of the sizes, each weighted by its square.

    It is the common size where all groups have one size, and near the largest where the others are small. A variance
    that is estimated by groups counts one such group more, because a few large groups may agree by chance.
    """
    sizes = np.bincount(groups).astype(float)
    return float((sizes**3).sum() / max((sizes**2).sum(), 1.0))


def part_of(groups: NDArray[np.int64] | None, rows: NDArray[np.bool_]) -> NDArray[np.int64] | None:
    """Return the numbers of the groups of some samples, from 0; None where there are no groups."""
    return None if groups is None else np.unique(groups[rows], return_inverse=True)[1]


def recorded(compared: Flips | ErrorChange) -> dict[str, float | int]:
    """Return the fields as JSON; there is a design effect where samples come in groups."""
    facts = asdict(compared)
    return {name: value for name, value in facts.items() if name != "design_effect" or value != 1.0}


def mcnemar(negative: int, positive: int) -> float:
    """Return the one-sided exact p-value that more flips are negative than chance explains."""
    return float(more_hits(negative - 1, negative + positive, 0.5))


def sign_flips_of_counts(sums: NDArray[np.float64]) -> float:
    """Return the exact one-sided p-value that the whole numbers (groups,) are above zero only by chance.

    It is the share of all choices of their signs with a sum as large. Numbers of one size make a binomial, and those of
    several sizes are convolved. Without groups, all are 1 or -1, and the test is McNemar's.
    """
    sizes, counts = np.unique(np.abs(sums[sums != 0]).astype(np.int64), return_counts=True)
    if not len(sizes) or sizes[-1] == 1:
        return mcnemar(int((sums > 0).sum()), int((sums < 0).sum()))
    shares = np.ones(1)  # of choices, by the sum of the numbers whose sign is positive
    for size, count in zip(sizes, counts, strict=True):
        of_size = np.zeros(size * count + 1)
        of_size[::size] = heads(int(count))
        shares = np.convolve(shares, of_size)
    return float(min(shares[int(sums[sums > 0].sum()) :].sum(), 1.0))


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
    there are too few samples to show any loss. Groups count as fewer samples, by the design effect.
    """
    n = round(flips.num_samples / flips.design_effect)
    fewest = round((flips.negative + flips.positive) / flips.design_effect)
    for num_flips in range(max(fewest, 1), n + 1):
        # the test rejects from this number of negative flips on
        critical = least_hits(1 - significance, num_flips, 0.5) + 1
        if critical > num_flips:
            continue
        shares = np.linspace(0.5, 1.0, 501)
        is_detected = more_hits(critical - 1, num_flips, shares) >= POWER
        return float((2 * shares[is_detected.argmax()] - 1) * num_flips / n)
    return 1.0


def smallest_detectable_shortfall(least: float, *, num_samples: int, margin: float = 0.0) -> float:
    """Return the shortfall of a true share, 0..1, below its floor `least` that is detected with the probability POWER.

    A shortfall is detected if the measured share is below least + margin. This is the inverse of the exact binomial
    (Clopper & Pearson 1934).
    """
    fewest = ceil(round((least + margin) * num_samples, 9))  # hits that pass
    if fewest > num_samples:
        return 0.0
    return max(least - (share_quantile(1 - POWER, hits=fewest, num=num_samples) if fewest else 0.0), 0.0)


def smallest_detectable_excess(ceiling: float, *, num_samples: int) -> float:
    """Return the excess of a true share, 0..1, over its ceiling that is detected with the probability POWER."""
    fewest = floor(round(ceiling * num_samples, 9)) + 1  # hits that fail
    if fewest > num_samples:
        return 1 - ceiling
    return share_quantile(POWER, hits=fewest, num=num_samples) - ceiling


def paired_test(differences: NDArray[np.float64]) -> float:
    """Return the one-sided p-value that the mean of the differences (n,) is above zero only by chance.

    With LEAST_FOR_T differences other than zero it is that of the t-test, else that of the sign-flip test: the t-test
    would trust few differences too much, as where two models differ on five of a thousand samples.
    """
    if np.count_nonzero(differences) < LEAST_FOR_T:
        return sign_flip_test(differences)
    return paired_t_test(differences)


def paired_t_test(differences: NDArray[np.float64]) -> float:
    """Return the p-value of the one-sided paired t-test (Student 1908).

    It is the probability of so large a mean of the differences (n,) if the true mean is zero or less. If all are equal
    there is no t, and the p-value is that of the sign-flip test. Return 1 if there are too few differences.
    """
    if len(differences) < 2:
        return 1.0
    if not np.ptp(differences):
        return float(0.5 ** len(differences)) if differences[0] > 0 else 1.0
    return float(t_above(differences.mean() / (differences.std(ddof=1) / sqrt(len(differences))), len(differences) - 1))


def sign_flip_test(differences: NDArray[np.float64]) -> float:
    """Return the exact one-sided p-value of the permutation test for paired samples (Fisher 1935).

    It is the share of all choices of signs with a sum as large as that of the differences (n,), at most about 30 of
    which are other than zero. The sums of one half of them are looked up among those of the other half.
    """
    values = differences[differences != 0]
    first, second = (sums_of_signs(half) for half in np.array_split(values, 2))
    least = values.sum() - 1e-9 * np.abs(values).sum()  # sums that are equal but for their last bits count
    hits = len(second) - np.searchsorted(np.sort(second), least - first)
    return float(hits.sum() / 2.0 ** len(values))


def sums_of_signs(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums (2^n,) of values (n,) with every choice of their signs."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return sums
