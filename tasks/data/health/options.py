"""The settings in params.yaml for the search for near-duplicates and suspects, and for warnings about texts."""

from dataclasses import dataclass

from tasks.machine.bounds import Count, Fraction, NotNegative, OpenFraction


@dataclass(frozen=True, kw_only=True)
class TwinOptions:
    """The share of altered copies to find, and the share of samples that may be taken for a copy by chance."""

    recall: OpenFraction
    max_false_alarms: OpenFraction


@dataclass(frozen=True, kw_only=True)
class MarkLimits:
    """The shares of a batch above which a warning is given: of texts that are cut, and of unknown tokens."""

    max_cut: Fraction
    max_unknown: Fraction


@dataclass(frozen=True, kw_only=True)
class HealthOptions:
    """The number of suspects of a kind that are listed, and the limits beyond which a batch is worth a training.

    min_new: the share of new samples, of those before them, that is worth one by itself.
    min_drift: the effect size that is worth one, of a batch that differs at this significance.
    """

    max_suspects: Count
    min_new: NotNegative
    min_drift: Fraction
    significance: OpenFraction
