"""The principal components of vectors: the few directions in which they differ most (Pearson 1901)."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

NUM_COMPONENTS = 16
Number = TypeVar("Number", np.float32, np.float64)


@dataclass(frozen=True, kw_only=True)
class Components:
    """The mean (dim,) of vectors, and the directions (dim, num_components) in which they differ most."""

    mean: NDArray[np.float64]
    basis: NDArray[np.float64]

    @classmethod
    def of(cls, vectors: NDArray[np.floating], *, most: int = NUM_COMPONENTS) -> "Components":
        """Return so many components of vectors (n, dim) at most; fewer where n or dim is less."""
        mean = vectors.mean(axis=0, dtype=np.float64)
        _, basis = directions(vectors - mean, most=most)
        return cls(mean=mean, basis=basis)

    def project(self, vectors: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return vectors (n, dim) in these directions: (n, num_components)."""
        projected: NDArray[np.float64] = (vectors - self.mean) @ self.basis
        return projected


def directions(centred: NDArray[Number], *, most: int) -> tuple[NDArray[Number], NDArray[Number]]:
    """Return the directions (dim, num) in which vectors (n, dim) of mean 0 differ most, and by which sums of squares.

    The sums (num,) are in rising order.
    """
    n, dim = centred.shape
    is_wide = dim > n
    products = centred @ centred.T if is_wide else centred.T @ centred  # the smaller of the two
    size, num = len(products), min(most, n, dim)
    sums, basis = eigh(products, subset_by_index=[size - num, size - 1])
    if is_wide:
        basis = centred.T @ basis / np.sqrt(np.maximum(sums, 1e-12 * max(sums[-1], 1e-12)))
    return sums, basis
