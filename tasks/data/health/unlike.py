"""Find the samples that are unlike all those of a training, by the distance to their nearest training vectors.

Vectors are compared as directions: the roots of features, with their signs, scaled to length 1. For features that are
not negative, as after a ReLU, the distance of two vectors is Hellinger's, up to a factor. Without the roots, a few
large features would decide alone.

Within the main directions of the training vectors, the distance is that to the NEIGHBOURS-th nearest of those that are
kept ("Out-of-distribution detection with deep nearest neighbors", Sun et al. 2022). The part outside of these
directions counts twice: it is larger for a sample of another kind ("ViM", Wang et al. 2022).

A limit is set on samples that the model did not learn its weights from, so that of as many new samples like these at
most the wanted share is beyond it (split conformal prediction, Vovk et al. 2005).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 5  # a few may be outliers themselves
OUTSIDE = 2.0  # the weight of the square of the part outside of the components

Vectors = NDArray[np.floating]
Half = NDArray[np.float16]


@dataclass(frozen=True, kw_only=True)
class Known:
    """A summary of the training vectors: their mean and main directions, and where they lie in these."""

    mean: Half  # (dim,)
    basis: Half  # (dim, num_components)
    references: Half  # (r, num_components)

    def distances(self, vectors: Vectors) -> NDArray[np.float32]:
        """Return how far away vectors (n, dim) are: (n,), squares.

        Each row is computed by itself, so that no bit depends on the rows beside it.
        """
        mean, basis, references = (part.astype(np.float32) for part in (self.mean, self.basis, self.references))
        place = min(NEIGHBOURS, len(references)) - 1
        found = np.empty(len(vectors), np.float32)
        for number, row in enumerate(directions(vectors) - mean):
            within = np.einsum("d,dk->k", row, basis)
            apart = references - within
            squares = np.einsum("rk,rk->r", apart, apart)
            outside = np.einsum("d,d->", row, row) - np.einsum("k,k->", within, within)
            found[number] = np.partition(squares, place)[place] + OUTSIDE * max(outside, 0)
        return found


def directions(vectors: Vectors) -> NDArray[np.float32]:
    """Return the roots of vectors (n, dim), with their signs, scaled to length 1; a vector of zeros stays."""
    roots = np.abs(vectors.astype(np.float32, copy=False))
    np.sqrt(roots, out=roots)
    np.copysign(roots, vectors, out=roots)
    norms = np.sqrt(np.einsum("nd,nd->n", roots, roots))
    roots /= np.where(norms > 0, norms, 1)[:, None]
    return roots


def limit_of(known: NDArray[np.floating], *, level: float) -> float | None:
    """Return the distance beyond which at most the share `level` of new samples lies, by those of m known ones.

    Returns:
        None where these are too few: the level 0.01 takes 99.
    """
    place = math.ceil((len(known) + 1) * (1 - level))
    return float(np.sort(known)[place - 1]) if 0 < place <= len(known) else None


def least_for(level: float) -> int:
    """Return the number of known samples that a limit takes."""
    return math.ceil(1 / level - 1e-9) - 1
