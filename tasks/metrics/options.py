"""The settings in params.yaml for the measures of a model."""

from dataclasses import dataclass

from tasks.machine.bounds import Count, OpenFraction


@dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    """The bins of the calibration error, the confidence of the intervals, and the bootstrap resamples behind them."""

    calibration_bins: Count
    confidence: OpenFraction
    num_resamples: Count
