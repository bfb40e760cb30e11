"""The directions in which the rows spread, and the approximate inverse curvature of the cross-entropy that follows from them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.training.multinomial import Pass
from tasks.training.rows import Array, Rows

ROWS_PER_FEATURE = 8  # for the covariance, where all its directions are wanted
WORTH_PASSES = 16  # what the directions may cost, in passes over the rows; a path shares them
EIGEN_COST = 10  # floating-point operations of a symmetric eigendecomposition, over size^3
FASTER = 4  # times: how much faster matrix products compute than eigendecompositions
NEGLIGIBLE = 1e-5  # of the largest variance


@dataclass(frozen=True, kw_only=True)
class Whitening:
    """The variances along orthonormal directions, and the mean variance along all others."""

    variances: Array  # (rank,)
    directions: Array  # (dim, rank)
    rest: float

    def apply_inverse(self, gradient: Array, *, at: Pass, l2: float) -> Array:
        """The gradient (num_classes, dim + 1) times an approximate inverse of the second derivative.

        For class k that derivative is the mean of p (1 - p) x x^T over the rows, with x = (vector, 1). It is taken for
        a_k (C + c_k c_k^T), where C is the covariance of all rows, a_k the mean of p (1 - p), and c_k the mean vector
        under that weight: moving the origin to c_k makes it block diagonal. Other classes' columns are left out.
        """
        floor = 1e-3 * at.curvature.mean() + 1e-9
        curvature = np.maximum(at.curvature, floor)[:, None]
        moved = gradient[:, :-1] - at.centres * gradient[:, -1:]
        of_rest = curvature * self.rest + l2
        along = moved @ self.directions
        weight = moved / of_rest + (along / (curvature * self.variances + l2) - along / of_rest) @ self.directions.T
        bias = gradient[:, -1] / curvature[:, 0] - (at.centres * weight).sum(axis=1)
        return np.hstack([weight, bias[:, None]])


def whiten(rows: Rows) -> Whitening:
    """All directions where that is cheap beside the passes over the rows, else those of a sample of rows."""
    rank = rank_worth(rows)
    wanted = min(rows.num, ROWS_PER_FEATURE * rows.dim if rank == rows.dim else rank)
    sample = evenly(rows, wanted)  # (m, dim)
    m = len(sample)
    if m >= rows.dim and rank == rows.dim:
        variances, directions = np.linalg.eigh(sample.T @ sample / m)
    else:
        variances, left = np.linalg.eigh(sample @ sample.T / m)
        is_there = variances > NEGLIGIBLE * variances[-1]
        variances, left = variances[is_there], left[:, is_there]
        directions = sample.T @ left / np.sqrt(m * variances)
    variances = np.maximum(variances.astype(np.float64), 0)
    total = float((sample.astype(np.float64) ** 2).sum() / m)
    others = rows.dim - len(variances)
    rest = max(total - float(variances.sum()), NEGLIGIBLE * total) / others if others else 0.0
    return Whitening(variances=variances, directions=directions.astype(np.float64), rest=rest)


def rank_worth(rows: Rows) -> int:
    """How many directions cost as much as WORTH_PASSES passes; dim if all of them do not cost more."""
    budget = WORTH_PASSES * 4.0 * rows.num * rows.dim * rows.num_classes
    samples = min(rows.num, ROWS_PER_FEATURE * rows.dim)
    if 2.0 * samples * rows.dim**2 + FASTER * EIGEN_COST * rows.dim**3 <= budget:
        return rows.dim
    rank = 64
    while 2.0 * (2 * rank) ** 2 * rows.dim + FASTER * EIGEN_COST * (2 * rank) ** 3 <= budget:
        rank *= 2
    return min(rank, rows.dim, rows.num)


def evenly(rows: Rows, count: int) -> NDArray[np.float32]:
    """Rows (count, dim) from all of the chunks, as many of each as its size allows: neighbours on disk may be alike."""
    picks = np.unique(np.linspace(0, rows.num - 1, count).astype(np.int64))
    size = rows.slices[0].stop
    parts = rows.map(lambda chunk: chunk.vectors[picks[picks // size == chunk.number] % size])
    return np.concatenate(list(parts))
