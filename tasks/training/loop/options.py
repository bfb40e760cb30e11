"""The settings in params.yaml for the training loop."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from tasks.machine.bounds import Count, Fraction, NotNegative, Positive


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """The settings of a training.

    epochs: None follows the number of samples, see `tasks.training.loop.schedule`.
    warmup_fraction: the share of all steps in which the learning rate rises.
    decay_towards: the point that weight decay pulls to: zero, or the start of the training (L2-SP, Li et al. 2018).
    label_smoothing: the share of each label that is spread over all classes (Szegedy et al. 2016).
    mixup: alpha of the Beta distribution by which samples are mixed in pairs (Zhang et al. 2018). Where frozen layers
        come first, their activations are mixed (Verma et al. 2019). 0 mixes none; None follows the number of samples.
    averaging: the decay of a moving average of the weights, which is scored and kept; 0 averages none. It begins
        faster, (1 + step) / (10 + step), so that it forgets the start. Statistics of normalisation are not averaged.
    gradient_norm: the norm to which larger gradients are clipped (Pascanu et al. 2013); None clips none.
    patience_epochs: the epochs without a lower val loss, calibrated, after which training stops; None never stops.
    balance: how the losses of several targets are weighed, see `tasks.training.loop.losses`.
    update_statistics: whether the normalisation layers of the trained parts use and learn the statistics of
        minibatches. Otherwise they use those that they came with, as frozen parts always do.
    """

    epochs: Annotated[int, Field(ge=0)] | None
    warmup_fraction: Fraction
    decay_towards: Literal["zero", "start"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    mixup: NotNegative | None
    averaging: Annotated[float, Field(ge=0, lt=1)]
    gradient_norm: Positive | None
    patience_epochs: Count | None
    balance: Literal["equal", "uncertainty"]
    update_statistics: bool
