"""Standardise each domain by itself: the simplest map between domains, and the first step of the others.

The mean and the deviation of a feature are those of the domain. This undoes a shift or a stretch of all samples alike,
as adaptive batch normalisation (Li et al. 2016) does inside a network.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SMALLEST_DEVIATION = 0.05  # of the largest: a feature that is nearly constant in a domain would else grow without bound
PRIOR_SAMPLES = 20  # that the source's moments count for, when those of a small domain are estimated


@dataclass(frozen=True, kw_only=True)
class Moments:
    """The mean and the deviation (dim,) of each feature in a domain."""

    mean: Array
    deviation: Array

    def standardise(self, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
        """(n, dim) -> (n, dim)."""
        return ((vectors - self.mean) / self.deviation).astype(np.float32)

    def fold(self, weight: Array, bias: Array) -> tuple[Array, Array]:
        """Return the layer (k, dim), (k,) for vectors as they are, from one for standardised vectors."""
        plain = weight / self.deviation
        return plain, bias - plain @ self.mean

    def unfold(self, weight: Array, bias: Array) -> tuple[Array, Array]:
        """Return the layer (k, dim), (k,) for standardised vectors, from one for vectors as they are."""
        return weight * self.deviation, bias + weight @ self.mean

    def onto(self, others: "Moments") -> "Moments":
        """Return moments that standardise a domain's vectors to these other moments instead of to 0 and 1."""
        deviation = self.deviation / others.deviation
        return Moments(mean=self.mean - others.mean * deviation, deviation=deviation)


def moments_of(vectors: NDArray[np.floating], *, weights: Array | None = None, prior: Moments | None = None) -> Moments:
    """Return the moments of a domain's vectors (n, dim) with weights (n,).

    With `prior`, those of the source, they are drawn towards these as if PRIOR_SAMPLES samples had them.
    """
    values = np.asarray(vectors, np.float64)
    weights = np.ones(len(values)) if weights is None else weights
    weights = weights / weights.sum()
    mean = weights @ values
    variance = weights @ (values - mean) ** 2
    if prior is not None:
        share = len(values) / (len(values) + PRIOR_SAMPLES)
        variance = share * variance + (1 - share) * (prior.deviation**2 + share * (mean - prior.mean) ** 2)
        mean = share * mean + (1 - share) * prior.mean
    deviation = np.sqrt(variance)
    return Moments(mean=mean, deviation=np.maximum(deviation, max(SMALLEST_DEVIATION * deviation.max(), 1e-8)))
