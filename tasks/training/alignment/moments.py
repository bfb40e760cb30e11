"""Standardise each domain by itself: the simplest map between domains, and the first step of the others.

The mean and the deviation of a feature are those of the domain, so that what moved or stretched all samples alike is
gone. It is what adaptive batch normalisation (Li et al. 2016) does inside a network.
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

    def standardise(self, vectors: NDArray[np.floating]) -> Array:
        """(n, dim) -> (n, dim)."""
        return (np.asarray(vectors, np.float64) - self.mean) / self.deviation

    def fold(self, weight: Array, bias: Array) -> tuple[Array, Array]:
        """Return the layer (k, dim), (k,) for vectors as they are, from one for standardised vectors."""
        own = weight / self.deviation
        return own, bias - own @ self.mean


def moments_of(vectors: NDArray[np.floating], *, prior: Moments | None = None) -> Moments:
    """Return the moments of a domain's vectors (n, dim).

    With `prior`, those of the source, they are drawn towards these as if PRIOR_SAMPLES samples had them.

    Raises:
        ValueError: there are no vectors.
    """
    if not len(vectors):
        raise ValueError("a domain has no samples: land some, or take it out of adapt.targets")
    values = np.asarray(vectors, np.float64)
    mean, variance = values.mean(axis=0), values.var(axis=0)
    if prior is not None:
        share = len(values) / (len(values) + PRIOR_SAMPLES)
        variance = share * variance + (1 - share) * (prior.deviation**2 + share * (mean - prior.mean) ** 2)
        mean = share * mean + (1 - share) * prior.mean
    deviation = np.sqrt(variance)
    return Moments(mean=mean, deviation=np.maximum(deviation, max(SMALLEST_DEVIATION * deviation.max(), 1e-8)))
