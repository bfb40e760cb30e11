"""What the heads of related targets say about the head of another: the directions in which its weights may be large.

The heads of other targets give a prior for the rows of this one's weights: normal, with a covariance between that of no
knowledge, 1, and that of the other heads' weights (empirical Bayes; "Regularized multi-task learning", Evgeniou and
Pontil 2004, has the case of a common mean). The fit stays convex, and the result stays one linear layer. So a model
that shares is as fast, as small and as easily exported as one that does not.

A target shares only where its cross-validated loss falls by more than one standard error (Breiman et al. 1984).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from tasks.training.heads.rows import Array, TrainingRows

SHARES = (0.5, 0.9, 0.99)  # of the prior covariance that the other heads give
NUM_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Prior:
    """A covariance of weights over standardised features: (1 - share) + share * sum of variances * basis basis^T.

    `basis` (dim, r) is orthonormal, and the mean variance over all dim directions is 1.
    """

    basis: Array
    variances: Array  # (r,)
    share: float

    def stretch(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return vectors (k, dim) times the root of the covariance: a plain L2 strength then acts as this prior."""
        kept = np.sqrt(1 - self.share)
        added = np.sqrt(1 - self.share + self.share * self.variances) - kept
        along = (vectors @ self.basis.astype(np.float32)) * added.astype(np.float32)
        stretched: NDArray[np.float32] = np.float32(kept) * vectors + along @ self.basis.T.astype(np.float32)
        return stretched


def prior_of(weights: Sequence[Array], scale: Array, *, share: float) -> Prior:
    """Return the prior that the weights (num_outputs, dim) of other heads give for features with this scale (dim,)."""
    centred = [(weight - weight.mean(axis=0)) * scale for weight in weights]  # a shift of all classes says nothing
    rows = np.concatenate([weight / np.linalg.norm(weight) for weight in centred if weight.any()])
    values, vectors = eigh(rows @ rows.T)
    is_there = values > 1e-9 * values.max()
    basis = rows.T @ (vectors[:, is_there] / np.sqrt(values[is_there]))
    return Prior(basis=basis, variances=values[is_there] * len(scale) / values[is_there].sum(), share=share)


class SharingRows(TrainingRows):
    """Rows on which a plain L2 strength acts as a prior from other heads."""

    prior: Prior | None = None

    def standardise(self, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
        standard = super().standardise(vectors)
        return self.prior.stretch(standard) if self.prior else standard

    def fold(self, weight: Array, bias: Array) -> tuple[Array, Array]:
        stretched = self.prior.stretch(weight.astype(np.float32)).astype(np.float64) if self.prior else weight
        return super().fold(stretched, bias)
