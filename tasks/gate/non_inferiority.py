"""Find where the candidate is worse than the baseline by more than chance: overall, and on slices."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from tasks.metrics.significance import holm

SLICES_SHARE = 0.2  # share of the allowed false alarms; the rest is for the whole set, where a loss shows best


class Paired(Protocol):
    """Two models on the same samples: the flips of classes, or the change of another kind's errors."""

    @property
    def num_samples(self) -> int: ...

    @property
    def p_value(self) -> float:
        """Return the one-sided p-value that the candidate is worse."""

    def smallest_detectable(self, *, significance: float) -> float | None:
        """Return the smallest true loss that the test would detect with the probability POWER; None if unknown."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Both models on the whole set or a slice, and the p-value that the candidate is worse.

    The p-value is corrected for the number of slices.
    """

    paired: Paired
    p_value: float
    significance: float  # the candidate is worse if p_value is below
    significance_alone: float  # it is surely worse if the p-value was below this before the correction

    @property
    def is_worse(self) -> bool:
        return self.p_value < self.significance

    @property
    def smallest_detectable(self) -> float | None:
        """The smallest detectable loss: of accuracy, 0..1, or in the unit of the errors."""
        return self.paired.smallest_detectable(significance=self.significance_alone)


def compare_slices(
    whole: Paired, slices: Mapping[str, Paired], *, significance: float, min_samples: int
) -> tuple[Comparison, dict[str, Comparison]]:
    """Return the comparison of the whole set, and of every slice with at least `min_samples`.

    If both models are equally good, the chance that the candidate counts as worse anywhere is at most `significance`:
    all use a paired test (McNemar's exact test for classes), Holm's correction is applied among the slices, and the
    chance of a false alarm is divided between the whole set and the slices.
    """
    tested = {name: paired for name, paired in slices.items() if paired.num_samples >= min_samples}
    for_whole = significance * (1 - SLICES_SHARE) if tested else significance
    for_slices = significance * SLICES_SHARE
    adjusted = holm([paired.p_value for paired in tested.values()])
    return Comparison(paired=whole, p_value=whole.p_value, significance=for_whole, significance_alone=for_whole), {
        name: Comparison(
            paired=paired, p_value=p_value, significance=for_slices, significance_alone=for_slices / len(tested)
        )
        for (name, paired), p_value in zip(tested.items(), adjusted, strict=True)
    }
