"""Compare two models on the same samples, sample by sample; samples may come in groups that flip together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.metrics.distributions import normal_above, normal_quantile, t_above, t_exceeded
from tasks.metrics.significance import (
    LEAST_FOR_T,
    POWER,
    ErrorChange,
    Flips,
    by_group,
    compare_errors_by,
    differences,
    sign_flips_of_counts,
    telling_size,
)

Array = NDArray[np.float64]
NUM_FLIPS = 9_999  # random choices of signs
AT_ONCE = 2**24  # signs in memory


@dataclass(frozen=True, kw_only=True)
class Paired:
    """The losses of the candidate against another model on each of n samples.

    losses: (n,). For classes 1 where only the other model is right, -1 where only the candidate is, else 0. For other
    kinds the candidate's error minus the other's, in the target's unit.
    groups: (n,), the number of the group of each sample, from 0. Samples that are alike are one group.
    """

    losses: Array
    groups: NDArray[np.int64]
    is_of_classes: bool

    def of(self, rows: NDArray[Any]) -> "Paired":
        """Return a part of the samples: a mask (n,) or places."""
        groups = numbered(self.groups[rows])
        return Paired(losses=self.losses[rows], groups=groups, is_of_classes=self.is_of_classes)

    @property
    def num_samples(self) -> int:
        return len(self.losses)

    @cached_property
    def num_groups(self) -> int:
        return len(np.unique(self.groups))

    @cached_property
    def mean(self) -> float:
        """The mean loss: of accuracy, -1..1, or in the target's unit."""
        return float(self.losses.mean()) if len(self.losses) else 0.0

    @cached_property
    def standard_error(self) -> float:
        """The standard error of the mean, by groups, if both models are equally good."""
        return float(sqrt((self.sums**2).sum()) / max(self.num_samples, 1))

    @cached_property
    def sums(self) -> Array:
        """The sum of the losses of each group."""
        return by_group(self.losses, self.groups)

    @cached_property
    def p_value(self) -> float:
        """The one-sided p-value that the candidate is worse only by chance.

        For classes it is that of the exact sign-flip test by groups, which is McNemar's exact test where each sample is
        a group of its own.
        """
        if self.is_of_classes:
            return sign_flips_of_counts(self.sums)
        return compare_errors_by(self.losses, groups=self.groups).p_value

    def smallest_detectable(self, *, significance: float) -> float | None:
        """Return the smallest true loss that the test would detect with the probability POWER; None if unknown."""
        if not self.is_of_classes:
            return compare_errors_by(self.losses, groups=self.groups).smallest_detectable(significance=significance)
        negative, positive = int((self.losses > 0).sum()), int((self.losses < 0).sum())
        flips = Flips(
            negative=negative, positive=positive, num_samples=self.num_samples, p_value=self.p_value,
            design_effect=self.design_effect(0.0),
        )  # fmt: skip
        return flips.smallest_detectable(significance=significance)

    def p_value_of_margin(self, margin: float) -> float:
        """Return the probability of results as good as these for a candidate that truly loses the margin or more.

        For classes it is the p-value of Tango's score test for paired shares (Tango 1998), whose variance is that of
        the samples times the design effect of the groups; see `tail`. For other kinds it is that of a t-test by groups,
        or 1 for few differences, which a t-test would trust too much.
        """
        if self.is_of_classes:
            if not self.num_samples:
                return 1.0
            flips = max(float(np.abs(self.losses).sum()), self.num_samples * margin)
            return float(tail(self.score(margin), flips=flips, size=telling_size(self.groups)))
        bound = self._error_of_mean
        if bound is None:
            return 1.0
        standard_error, freedom = bound
        return float(t_above((margin - self.mean) / standard_error, freedom))

    def bound(self, *, level: float) -> float | None:
        """Return the upper bound of the true loss at a level such as 0.05; None if it is unknown.

        It is the smallest margin that the test of `p_value_of_margin` shows.
        """
        if not self.is_of_classes:
            known = self._error_of_mean
            return None if known is None else self.mean + known[0] * t_exceeded(level, known[1])
        if self.p_value_of_margin(1 - 1e-9) >= level:
            return None
        low, high = 0.0, 1 - 1e-9
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if self.p_value_of_margin(middle) < level else (middle, high)
        return high

    def interval(self, *, confidence: float) -> tuple[float, float] | None:
        """Return the ends of the two-sided interval of the true loss; None for too few differences.

        For classes they are the losses that Tango's score test does not refute.
        """
        level = (1 - confidence) / 2
        if not self.is_of_classes:
            known = self._error_of_mean
            if known is None:
                return None
            half = known[0] * t_exceeded(level, known[1])
            return self.mean - half, self.mean + half
        if not self.num_samples:
            return None
        swapped = replace(self, losses=-self.losses)
        z = -normal_quantile(level)

        def loss_at(score: float) -> float:
            low, high = -1 + 1e-9, 1 - 1e-6  # never exactly 0 between: without flips it has no score
            for _ in range(40):
                middle = (low + high) / 2
                reached = self.score(middle) if middle > 0 else -swapped.score(-middle)
                low, high = (middle, high) if reached < score else (low, middle)
            return high

        return loss_at(-z), loss_at(z)

    def score(self, margin: float) -> float:
        """Return Tango's z that the loss of accuracy is below the margin."""
        negative, positive = (self.losses > 0).sum(), (self.losses < 0).sum()
        return float(tango(negative, positive, self.num_samples, margin, self.design_effect(margin)))

    def design_effect(self, margin: float) -> float:
        """Return the factor by which groups raise the variance of the sum of losses (Rao & Scott 1992), at least 1.

        One group of the `telling_size`, all of which flips, is added.
        """
        size, rests = telling_size(self.groups), margin - self.losses
        between = float((by_group(rests, self.groups) ** 2).sum()) + size**2
        return max(between / (float((rests**2).sum()) + size), 1.0) if size else 1.0

    def samples_that_show(self, margin: float, *, level: float) -> int | None:
        """Return the number of held-out samples that show the margin with the probability POWER, for two equal models.

        The share of flips, or the deviation of the differences, is assumed to stay the same. None if it is unknown.
        """
        if self.is_of_classes:
            flips = max(float(np.abs(self.losses).mean()), margin) if self.num_samples else 0.0
            variance = flips * self.design_effect(margin)
        else:
            variance = compare_errors_by(self.losses, groups=self.groups).deviation ** 2
        z = normal_quantile(POWER) - normal_quantile(level)
        return ceil(z**2 * variance / margin**2) if variance else None

    @cached_property
    def _error_of_mean(self) -> tuple[float, int] | None:
        """The standard error of the mean loss, and its degrees of freedom; None for too few differences."""
        if np.count_nonzero(self.sums) < LEAST_FOR_T:
            return None
        sizes = np.bincount(self.groups)
        rests = self.sums - self.mean * sizes
        num = len(sizes)
        return max(sqrt(num / (num - 1) * float((rests**2).sum())) / self.num_samples, 1e-300), num - 1


def paired_classes(*, candidate: NDArray[np.bool_], other: NDArray[np.bool_], groups: NDArray[np.int64]) -> Paired:
    """Pair two models of classes, which are right or wrong on the same samples (n,)."""
    losses = other.astype(float) - candidate.astype(float)
    return Paired(losses=losses, groups=numbered(groups), is_of_classes=True)


def paired_errors(*, candidate: Array, other: Array, groups: NDArray[np.int64]) -> Paired:
    """Pair two models by their errors (n,) on the same samples; those that differ in their last bits are equal."""
    losses = differences(candidate=candidate, baseline=other)
    return Paired(losses=losses, groups=numbered(groups), is_of_classes=False)


def numbered(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers of groups (n,) from 0 without a gap: a number without a sample would count as a group."""
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def tango(negative: Any, positive: Any, n: Any, margin: Any, design_effect: Any = 1.0) -> Any:
    """Return the z of the score test that the loss (negative - positive) / n is below the margin (Tango 1998).

    The variance is that of the likeliest shares of flips if the loss is the margin. All arguments may be arrays.
    """
    flips, rest = negative + positive, n - negative - positive
    linear = flips * (1 - margin) - 2 * positive * margin - 2 * rest * margin
    root = np.sqrt(np.maximum(linear**2 + 8 * n * positive * margin * (1 - margin), 0))
    share = np.clip((linear + root) / (4 * n), 0, (1 - margin) / 2)  # of the positive flips
    variance = n * (2 * share + margin - margin**2) * design_effect
    return (positive - negative + n * margin) / np.sqrt(variance)


def tail(z: Any, *, flips: Any, size: float) -> Any:
    """Return the p-values of z: of groups by Student's t, with as many degrees of freedom as groups flip, at least 1.

    The variance is inexact where few groups flip.

    Args:
        flips: the samples that flip, or would flip if the loss is the margin; an array, as z.
        size: `telling_size` of the groups.
    """
    return normal_above(z) if size <= 1 else t_above(z, np.maximum(flips / size, 1.0))


def joint_p_values(paired: Paired, members: Sequence[NDArray[np.bool_]], *, num_flips: int = NUM_FLIPS) -> Array:
    """Return, for each slice, the p-value that the candidate is worse there, corrected for all slices together.

    It is the share of random choices of the groups' signs in which any slice looks as bad as this one (maxT, Westfall &
    Young 1993), by the sum of its losses over the root of their sum of squares. Slices may overlap and be small.

    Args:
        members: masks (n,).
        num_flips: the number of random choices.
    """
    if not len(members):
        return np.zeros(0)
    differ = paired.losses != 0
    losses, groups = paired.losses[differ], numbered(paired.groups[differ])
    sums = np.stack([by_group(losses * of[differ], groups) for of in members], axis=1)  # (groups, slices)
    sums = sums[np.abs(sums).sum(axis=1) > 0]
    scale = np.sqrt((sums**2).sum(axis=0))
    scale[scale == 0] = np.inf  # a slice without a flip shows no loss
    observed = sums.sum(axis=0) / scale
    generator = np.random.default_rng(0)
    hits = np.ones(len(members))
    at_once = max(AT_ONCE // max(len(sums), 1), 1)
    for start in range(0, num_flips, at_once):
        signs = 2.0 * generator.integers(0, 2, (min(at_once, num_flips - start), len(sums)), dtype=np.int8) - 1
        worst = (signs @ sums / scale).max(axis=1)
        hits += (worst[:, None] >= observed - 1e-9).sum(axis=0)
    return np.where(np.isinf(scale), 1.0, hits / (num_flips + 1))


def change_of(paired: Paired) -> ErrorChange:
    """Return the change of the errors of another kind than classes."""
    return compare_errors_by(paired.losses, groups=paired.groups)
