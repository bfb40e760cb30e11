"""The head for a number on frozen features: ridge regression, whose Gram matrix serves every strength and every number.

A robust loss (Huber 1964) pulls outlying numbers towards the fit, and solves again, until nothing moves
(modified residuals, Huber 1981): the Gram matrix and its factors stay the same.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from tasks.targets.number import HUBER_WIDTH, NumberLoss
from tasks.training.heads.rows import Array, Chunk, StandardRows

MOST_ITERATIONS = 200
SETTLED = 1e-4  # standard deviations, of the fit to any row


class Gram:
    """The products of the standardised rows, whose mean is 0, over n: (dim, dim), or (n, n) of few rows.

    They are in float64: the products of a chunk are in float32, and their sums in float64.
    The rows refer to it, so it does not refer to them: a cycle would stay in memory until the garbage collector runs.
    """

    def __init__(self, rows: StandardRows) -> None:
        self.few: NDArray[np.float32] | None = None  # (n, dim)
        if rows.num < rows.dim:
            self.few = np.concatenate(list(rows.map(vectors_of)))
            whole = self.few.astype(np.float64)
            self.products = whole @ whole.T / rows.num
            return
        self.products = np.zeros((rows.dim, rows.dim))
        for product in rows.map(lambda chunk: own_products(chunk.vectors)):
            self.products += product
        self.products /= rows.num

    def factor(self, l2: float) -> tuple[Array, bool]:
        matrix = self.products.copy()
        matrix[np.diag_indices_from(matrix)] += l2
        # LAPACK reads by columns, and the matrix is symmetric: its transpose needs no copy
        factor, is_lower = cho_factor(matrix.T, overwrite_a=True, check_finite=False)
        return factor, is_lower

    def right_side(self, rows: StandardRows, numbers: Array) -> Array:
        """Return the products (dim,) of the rows with centred numbers (n,) over n; of few rows, the numbers over n."""
        if self.few is not None:
            return numbers / rows.num
        single = numbers.astype(np.float32)
        products = np.zeros(rows.dim)
        for product in rows.map(lambda chunk: single[rows.slices[chunk.number]] @ chunk.vectors):
            products += product
        return products / rows.num

    def weight(self, factor: tuple[Array, bool], right_side: Array) -> Array:
        """Return the weights (dim,) with the least squares."""
        solved = cho_solve(factor, right_side, check_finite=False)
        return np.asarray(solved if self.few is None else self.few.T @ solved)


def path(
    rows: StandardRows, numbers: Array, l2_strengths: Sequence[float], *, loss: NumberLoss
) -> Iterator[tuple[float, tuple[Array, Array]]]:
    """Yield the strengths and their layers for features that are not standardised, from strong to weak.

    They minimise the mean loss + l2 / 2 * |weight|^2 over standardised features and numbers (n,); the bias is free.
    `squared` is half the square; `huber` is linear beyond HUBER_WIDTH. A layer has weight (1, dim) and bias (1,).
    """
    gram = rows.once("gram", Gram)
    middle = float(numbers.mean())
    right_side = gram.right_side(rows, numbers - middle)
    for l2 in sorted(set(l2_strengths), reverse=True):
        factor = gram.factor(l2)
        weight, bias = gram.weight(factor, right_side), middle
        if loss == "huber":
            weight, bias = pulled(rows, gram, factor, numbers, start=(weight, bias))
        yield l2, rows.fold(weight[None], np.array([bias]))


def pulled(
    rows: StandardRows, gram: Gram, factor: tuple[Array, bool], numbers: Array, *, start: tuple[Array, float]
) -> tuple[Array, float]:
    """Return the weights (dim,) and the bias with the least Huber loss, from those with the least squares on."""
    weight, middle = start
    fit = scores(rows, weight) + middle
    for _ in range(MOST_ITERATIONS):
        nearer = fit + np.clip(numbers - fit, -HUBER_WIDTH, HUBER_WIDTH)
        middle = float(nearer.mean())
        weight = gram.weight(factor, gram.right_side(rows, nearer - middle))
        before, fit = fit, scores(rows, weight) + middle
        if np.abs(fit - before).max() <= SETTLED:
            break
    return weight, middle


def scores(rows: StandardRows, weight: Array) -> Array:
    """Return the products (n,) of the rows with the weights."""
    weight = weight.astype(np.float32)
    return np.concatenate(list(rows.map(lambda chunk: chunk.vectors @ weight))).astype(np.float64)


def vectors_of(chunk: Chunk) -> NDArray[np.float32]:
    return chunk.vectors


def own_products(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the products (dim, dim) of the features of vectors (k, dim).

    numpy sees that both factors are one array, and computes half of the products (BLAS's syrk). It lets other threads
    run meanwhile, and scipy's wrapper of syrk does not.
    """
    return vectors.T @ vectors
