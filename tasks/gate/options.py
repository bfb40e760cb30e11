"""The settings in params.yaml for the regression gate."""

from dataclasses import dataclass
from typing import Literal

from tasks.machine.bounds import Count, Fraction, NotNegative, OpenFraction, Positive


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """The floors and ceilings that a candidate has to keep, None for none, and how it is compared with other models.

    max_error: by target, in its unit, for kinds other than classes.
    margin: the loss of accuracy that is allowed to a candidate; slice_margin: that on a slice.
    error_margin: by target, the rise of the mean error that is allowed, in its unit, for kinds other than classes.
    promotes: the verdicts on which a candidate may be put in use without a person; max_undecided: how many undecided
    ones in a row.
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
    margin: OpenFraction | None
    slice_margin: OpenFraction | None
    error_margin: dict[str, Positive]
    promotes: list[Literal["accepted", "undecided"]]
    max_undecided: Count
    min_slice_samples: Count
    max_negative_flips: Fraction | None
    max_form_flips: Fraction | None
    max_decisions: Count
