"""The wear of a held-out set: each decision on it lowers its trust, so that a floor needs a margin."""

from dataclasses import dataclass
from math import sqrt

from scipy.stats import norm


@dataclass(frozen=True, kw_only=True)
class Wear:
    """The wear after `num_decisions` on one held-out set, the present decision included.

    Every decision reveals a little of the held-out set: the best of many candidates looks better than it is.
    """

    num_decisions: int
    confidence: float

    def margin(self, value: float, num_samples: int) -> float:
        """Return how far above its floor a share (accuracy, recall) of `num_samples` must be."""
        return self.margin_of_mean(sqrt(max(value * (1 - value), 0.0) / max(num_samples, 1)))

    def margin_of_mean(self, standard_error: float) -> float:
        """Return how far on the right side of its limit a mean must be, of its standard error.

        It is the widening of its normal interval when the confidence has to hold for all decisions together
        (Bonferroni; Dunn 1961). The margin of the first decision is 0.
        """
        outside = 1 - self.confidence
        return float((norm.isf(outside / 2 / self.num_decisions) - norm.isf(outside / 2)) * standard_error)
