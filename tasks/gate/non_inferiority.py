"""Find where the candidate is worse than the baseline by more than chance: overall, and on slices."""

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.metrics.significance import Flips, holm, smallest_detectable_loss

SLICES_SHARE = 0.2  # share of the allowed false alarms; the rest is for the whole set, where a loss shows best


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The flips on the whole set or a slice, and the p-value that the candidate is worse.

    The p-value is corrected for the number of slices.
    """

    flips: Flips
    p_value: float
    significance: float  # the candidate is worse if p_value is below
    significance_alone: float  # it is surely worse if the p-value was below this before the correction

    @property
    def is_worse(self) -> bool:
        return self.p_value < self.significance

    @property
    def smallest_detectable(self) -> float:
        """The smallest detectable loss of accuracy, 0..1."""
        return smallest_detectable_loss(self.flips, significance=self.significance_alone)


def compare_slices(
    whole: Flips, slices: Mapping[str, Flips], *, significance: float, min_samples: int
) -> tuple[Comparison, dict[str, Comparison]]:
    """Return the comparison of the whole set, and of every slice with at least `min_samples`.

    If both models are equally good, the chance that the candidate counts as worse anywhere is at most `significance`:
    all use McNemar's exact test, Holm's correction is applied among the slices, and the chance of a false alarm is
    divided between the whole set and the slices.
    """
    tested = {name: flips for name, flips in slices.items() if flips.num_samples >= min_samples}
    for_whole = significance * (1 - SLICES_SHARE) if tested else significance
    for_slices = significance * SLICES_SHARE
    adjusted = holm([flips.p_value for flips in tested.values()])
    return Comparison(flips=whole, p_value=whole.p_value, significance=for_whole, significance_alone=for_whole), {
        name: Comparison(
            flips=flips, p_value=p_value, significance=for_slices, significance_alone=for_slices / len(tested)
        )
        for (name, flips), p_value in zip(tested.items(), adjusted, strict=True)
    }
