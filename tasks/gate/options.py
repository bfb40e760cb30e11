"""What params.yaml sets for the regression gate."""

from dataclasses import dataclass

from tasks.machine.bounds import Count, Fraction, NotNegative, OpenFraction, Positive


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """The floors and ceilings that a candidate has to keep, None for none, and how it is compared with other models.

    max_error: by target, in its unit, for kinds other than classes.
    """

    min_accuracy: Fraction | None
    min_class_recall: Fraction | None
    max_calibration_error: Fraction | None
    max_error: dict[str, NotNegative]
    min_interval_coverage: Fraction | None
    min_unchanged: Fraction | None
    max_bundle_megabytes: Positive | None
    max_latency_milliseconds: Positive | None
    significance: OpenFraction
    min_slice_samples: Count
    max_negative_flips: Fraction | None
    max_decisions: Count
