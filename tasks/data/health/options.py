"""What params.yaml sets for the search for near-duplicates, and for warnings about texts."""

from dataclasses import dataclass

from tasks.machine.bounds import Fraction, OpenFraction


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
