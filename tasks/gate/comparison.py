"""Judge a candidate against another model on the same samples: shown to be as good, worse, or neither."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.machine.names import on_one_line
from tasks.metrics.paired import Paired, joint_p_values

DOMAINS_SHARE = 0.2  # share of the allowed false alarms that domains have, where a candidate is adapted to any
SLICES_SHARE = 0.2  # share of the allowed false alarms; the rest is for the whole set, where a loss shows best
DOUBT = 2.0  # times the significance: below it, a slice that lost more than its margin is in doubt


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The comparison of two models on the whole set or a slice.

    p_value: for the candidate being worse only by chance; that of a slice is corrected for all slices.
    significance: the candidate is worse if the p-value is below this.
    significance_alone: the candidate is surely worse if the p-value was below this before the correction.
    margin: the loss that is allowed, as a share or in the target's unit; None for none.
    level: the chance that a candidate that lost the margin counts as shown.
    """

    paired: Paired
    p_value: float
    significance: float
    significance_alone: float
    margin: float | None
    level: float

    @property
    def is_shown(self) -> bool:
        """Return whether the samples show that the candidate lost less than the margin."""
        return self.margin is not None and self.paired.p_value_of_margin(self.margin) < self.level

    @property
    def is_worse(self) -> bool:
        """Return whether the candidate is significantly worse, and not shown to have lost less than the margin."""
        return self.p_value < self.significance and not self.is_shown

    @property
    def bound(self) -> float | None:
        """The largest true loss that the samples do not rule out; None if no bound is known."""
        return self.paired.bound(level=self.level)

    @property
    def smallest_detectable(self) -> float | None:
        """The smallest detectable loss: of accuracy, 0..1, or in the unit of the errors."""
        return self.paired.smallest_detectable(significance=self.significance_alone)


def compare_slices(
    whole: Paired,
    slices: Mapping[str, NDArray[np.bool_]],
    *,
    significance: float,
    margin: float | None,
    slice_margin: float | None,
    level: float,
) -> tuple[Comparison, dict[str, Comparison]]:
    """Return the comparison of the whole set, and of every slice.

    If both models are equally good, the chance that the candidate counts as worse anywhere is at most `significance`:
    it is divided between the whole set and the slices, which are tested jointly.

    Args:
        slices: the samples (n,) of each.
        level: the chance that a candidate that lost the margin counts as shown.
    """
    for_whole = significance * (1 - SLICES_SHARE) if slices else significance
    for_slices = significance * SLICES_SHARE
    on_all = Comparison(
        paired=whole, p_value=whole.p_value, significance=for_whole, significance_alone=for_whole, margin=margin,
        level=level,
    )  # fmt: skip
    limits: dict[str, Any] = {
        "significance": for_slices, "significance_alone": for_slices / max(len(slices), 1), "margin": slice_margin,
        "level": level,
    }  # fmt: skip
    p_values = joint_p_values(whole, list(slices.values()))
    return on_all, {
        name: Comparison(paired=whole.of(of), p_value=float(p_value), **limits)
        for (name, of), p_value in zip(slices.items(), p_values, strict=True)
    }


def with_pooled(
    slices: Mapping[tuple[str, str], NDArray[np.bool_]], *, groups: NDArray[np.int64], min_samples: int
) -> dict[str, NDArray[np.bool_]]:
    """Return the slices and, for each column, one more of all those with too few samples, where there are several.

    Args:
        slices: the samples (n,) of each, by its column and its value.
        groups: (n,), the number of each sample's group. A group counts as one sample.

    Returns:
        The samples of each, by its name, "class cat".
    """
    small: dict[str, list[NDArray[np.bool_]]] = {}
    for (column, _), of in slices.items():
        if len(np.unique(groups[of])) < min_samples:
            small.setdefault(column, []).append(of)
    pooled = {
        f"{column}: the {len(masks)} small ones together": np.logical_or.reduce(masks)
        for column, masks in small.items()
        if len(masks) > 1 and not np.logical_or.reduce(masks).all()
    }
    return {on_one_line(f"{column} {value}"): of for (column, value), of in slices.items()} | pooled


def is_doubtful(on_slice: Comparison, *, significance: float) -> bool:
    """Return whether a slice lost more than its margin, and chance explains it badly: a person should look."""
    margin = on_slice.margin
    return margin is not None and on_slice.paired.mean > margin and on_slice.p_value < DOUBT * significance
