"""The settings in params.yaml for the choice of the samples to label next."""

from dataclasses import dataclass

from tasks.machine.bounds import Count, Fraction


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """The number of samples that are chosen, and the share of them that is chosen for coverage instead of doubt."""

    count: Count
    coverage: Fraction
