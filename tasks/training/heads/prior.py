"""The prior that the heads of related targets give for another head: directions in which its weights may be large.

The prior is for the rows of the weights: normal, with a covariance between that of no knowledge, 1, and that of the
other heads' weights (empirical Bayes; "Regularized multi-task learning", Evgeniou and Pontil 2004, has the case of a
common mean). The fit stays convex, and the result stays one linear layer. So a model that shares is as fast, as small
and as easily exported as one that does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

NEGLIGIBLE = 1e-9  # of the largest variance


@dataclass(frozen=True, kw_only=True)
class Prior:
    """A covariance of weights over standardised features: (1 - share) + share * sum of variances * basis basis^T.

    `basis` (dim, r) is orthonormal, and the mean variance over all dim directions is 1.
    """

    basis: NDArray[np.float64]
    variances: NDArray[np.float64]  # (r,)
    share: float

    def stretch(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return vectors (k, dim) times the root of the covariance: a plain L2 strength then acts as this prior."""
        kept = np.sqrt(1 - self.share)
        added = np.sqrt(1 - self.share + self.share * self.variances) - kept
        along = (vectors @ self.basis.astype(np.float32)) * added.astype(np.float32)
        stretched: NDArray[np.float32] = np.float32(kept) * vectors + along @ self.basis.T.astype(np.float32)
        return stretched


def prior_of(directions: Sequence[NDArray[np.float64]], *, share: float) -> Prior | None:
    """Return the prior that the directions (k, dim) of other heads give; None where all are 0.

    The directions of a head are rows of its weights over standardised features. Every head counts the same.
    """
    rows = [weight / np.linalg.norm(weight) for weight in directions if weight.any()]
    if not rows:
        return None
    stacked = np.concatenate(rows)
    values, vectors = eigh(stacked @ stacked.T)
    is_there = values > NEGLIGIBLE * values.max()
    basis = stacked.T @ (vectors[:, is_there] / np.sqrt(values[is_there]))
    return Prior(basis=basis, variances=values[is_there] * len(basis) / values[is_there].sum(), share=share)
