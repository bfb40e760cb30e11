"""What params.yaml sets for the search for near-duplicates."""

from dataclasses import dataclass

from tasks.machine.bounds import OpenFraction


@dataclass(frozen=True, kw_only=True)
class TwinOptions:
    """The share of altered copies to find, and the share of samples that may be taken for a copy by chance."""

    recall: OpenFraction
    max_false_alarms: OpenFraction
