"""How far a held-out set can be trusted after many decisions on it: how many there were in, a margin out."""

from dataclasses import dataclass
from math import sqrt

from scipy.stats import norm


@dataclass(frozen=True, kw_only=True)
class Wear:
    """Each decision lets out a little of what is held out: the best of many candidates looks better than it is.

    num_decisions: on this held-out set, that at hand included.
    """

    num_decisions: int
    confidence: float

    def margin(self, value: float, num_samples: int) -> float:
        """What a share (accuracy, recall) of `num_samples` must be above its floor: the widening of its normal interval where the
        confidence is to hold for all the decisions together (Bonferroni; Dunn 1961). 0 for the first."""
        error = sqrt(max(value * (1 - value), 0.0) / max(num_samples, 1))
        outside = 1 - self.confidence
        return float((norm.isf(outside / 2 / self.num_decisions) - norm.isf(outside / 2)) * error)
