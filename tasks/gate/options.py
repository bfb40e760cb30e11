"""What params.yaml sets for the regression gate."""

from dataclasses import dataclass

from tasks.machine.bounds import Count, Fraction, OpenFraction, Positive


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """The floors and ceilings that a candidate has to keep, and how it is compared with the model in use."""

    min_accuracy: Fraction
    min_class_recall: Fraction
    max_calibration_error: Fraction
    min_unchanged: Fraction
    max_bundle_megabytes: Positive | None
    max_latency_milliseconds: Positive | None
    significance: OpenFraction
    min_slice_samples: Count
    max_negative_flips: Fraction | None
    max_decisions: Count
