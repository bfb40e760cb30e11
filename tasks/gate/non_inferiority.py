"""How two classifiers differ overall and on slices in; where the candidate is worse by more than chance out."""

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.metrics.significance import Flips, holm, smallest_detectable_loss

SLICES_SHARE = 0.2  # of the false alarms that are allowed; the rest is for the whole, where a loss shows best


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Of the whole or a slice: its flips, and the p-value that the candidate is worse, corrected for the number of slices."""

    flips: Flips
    p_value: float
    significance: float  # the candidate is worse where p_value is below
    significance_alone: float  # and surely where it was below this before the correction

    @property
    def is_worse(self) -> bool:
        return self.p_value < self.significance

    @property
    def smallest_detectable(self) -> float:
        """Loss of accuracy, 0..1."""
        return smallest_detectable_loss(self.flips, significance=self.significance_alone)


def compare_slices(
    whole: Flips, slices: Mapping[str, Flips], *, significance: float, min_samples: int
) -> tuple[Comparison, dict[str, Comparison]]:
    """The whole, and each slice with at least `min_samples`; equally good models are called worse anywhere with a chance of
    at most `significance`.

    McNemar's exact test for each, Holm's correction among the slices, and the chance of a false alarm divided between the
    whole and the slices.
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
