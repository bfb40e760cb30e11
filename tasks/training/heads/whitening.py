"""The covariance of the rows, and the approximate inverse curvature of the cross-entropy that follows from it."""

from functools import reduce
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from tasks.machine.cores import spread
from tasks.training.heads.cross_entropy import Pass
from tasks.training.heads.rows import Array, StandardRows

# rows per feature in the covariance: so many cost about as much as PASSES over all rows. With 1.6 instead of 4.9 a
# solution for 10 classes took 16 passes instead of 12, and the covariance a third of the time
LEAST_ROWS, MOST_ROWS = 1.5, 16.0
PASSES = 16
NUM_GROUPS = 4  # of chunks, whose products are computed on a core each
RIDGE_STEP = 4.0  # ridges are rounded to its powers, so that few matrices are factorised along a path of strengths
NUM_FACTORS = 8  # that are kept, (dim, dim) each
NEGLIGIBLE = 1e-6  # of the covariance's norm: smaller ridges are lost in float32


class Whitening:
    """The covariance C (dim, dim) of every stride-th row, and the Cholesky factors of C + ridge * 1.

    With fewer rows than features, the factors are those of the products (n, n) of the rows, by Woodbury's identity.
    """

    @classmethod
    def of(cls, rows: StandardRows) -> Self:
        """Return the covariance that suits a head on these rows; heads of about as many outputs share it."""
        per_feature = np.clip(PASSES * 4 * rows.num * rows.num_outputs / rows.dim**2, LEAST_ROWS, MOST_ROWS)
        stride = max(int(rows.num / (per_feature * rows.dim)), 1)
        return rows.once(f"whitening {stride}", lambda own: cls(own, stride=stride))

    def __init__(self, rows: StandardRows, *, stride: int = 1) -> None:
        groups = np.array_split(np.arange(len(rows.slices)), min(NUM_GROUPS, len(rows.slices)))
        num = sum(len(range(*chunk.indices(rows.num))[::stride]) for chunk in rows.slices)
        self._few: Array | None = None  # (num, dim) / sqrt(num)
        if num < rows.dim:
            self._few = np.concatenate([chunk.astype(np.float64) for chunk in rows.map(lambda chunk: chunk.vectors)])
            self._few /= np.sqrt(num)
            self._products: NDArray[np.floating] = self._few @ self._few.T
        else:
            products = spread(
                groups, lambda group: sum_of_products(rows, group, stride), ahead=2, num_threads=rows.num_threads
            )
            self._products = reduce(np.add, products) / np.float32(num)
        self._least = NEGLIGIBLE * float(np.linalg.norm(self._products))
        self._factors: dict[float, tuple[NDArray[np.floating], bool]] = {}  # by the ridge, the latest last

    def apply_inverse(self, gradient: Array, *, at: Pass, l2: float) -> Array:
        """Return gradients (…, num_outputs, dim + 1) times an approximate inverse of the second derivative.

        For output k that derivative is the mean of p (1 - p) x x^T over the rows, with x = (vector, 1). The
        approximation is a_k (C + c_k c_k^T), where C is the covariance of all rows, a_k the mean of p (1 - p), and c_k
        the mean vector under that weight: to move the origin to c_k makes it block diagonal. Columns of other outputs
        are left out.
        """
        floor = 1e-3 * at.curvature.mean() + 1e-9
        curvature = np.maximum(at.curvature, floor)
        weight = gradient[..., :-1] - at.centres * gradient[..., -1:]
        ridges = RIDGE_STEP ** np.rint(np.log(np.maximum(l2 / curvature, self._least)) / np.log(RIDGE_STEP))
        for ridge in np.unique(ridges):
            these = ridges == ridge
            weight[..., these, :] = self._solve(weight[..., these, :], float(ridge)) / curvature[these, None]
        bias = gradient[..., -1] / curvature - (at.centres * weight).sum(axis=-1)
        return np.concatenate([weight, bias[..., None]], axis=-1)

    def _solve(self, moved: Array, ridge: float) -> Array:
        """Return (…, dim) times the inverse of C + ridge * 1."""
        factor, columns = self._factor(ridge), moved.reshape(-1, moved.shape[-1]).T
        if self._few is None:
            solved = cho_solve(factor, columns.astype(np.float32), check_finite=False)
        else:
            inner = cho_solve(factor, self._few @ columns, check_finite=False)
            solved = (columns - self._few.T @ inner) / ridge
        return np.asarray(solved.T, np.float64).reshape(moved.shape)

    def _factor(self, ridge: float) -> tuple[NDArray[np.floating], bool]:
        # no lru_cache, whose reference to this object would keep the matrices until the garbage collector runs
        factor = self._factors.pop(ridge, None) or self._factorise(ridge)
        while len(self._factors) >= NUM_FACTORS:
            del self._factors[next(iter(self._factors))]
        self._factors[ridge] = factor
        return factor

    def _factorise(self, ridge: float) -> tuple[NDArray[np.floating], bool]:
        """Return the Cholesky factor, of a larger ridge where rounding leaves none for this one."""
        matrix = self._products.copy().T  # symmetric, and in the order that LAPACK wants
        matrix[np.diag_indices_from(matrix)] += np.asarray(ridge, matrix.dtype)
        try:
            factor, is_lower = cho_factor(matrix, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return self._factorise(RIDGE_STEP * ridge)
        return factor, is_lower


def sum_of_products(rows: StandardRows, chunks: NDArray[np.int64], stride: int) -> NDArray[np.float32]:
    """Return (dim, dim): the sum of x x^T over every stride-th row of the chunks."""
    parts = (rows.chunk(int(number)).vectors for number in chunks)
    vectors = np.concatenate([part if stride == 1 else part[::stride].copy() for part in parts])
    return np.asarray(vectors.T @ vectors)
