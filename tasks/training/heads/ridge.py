"""The head for a number on frozen features: ridge regression, whose Gram matrix serves every strength and every number.

A robust loss (Huber 1964) pulls numbers that lie far off towards the fit, and solves again, until nothing moves
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

    The rows keep it, so it does not keep them: a circle would stay in memory until the garbage collector runs.
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
        matrix = self.products.copy(order="F")
        matrix[np.diag_indices_from(matrix)] += l2
        factor, is_lower = cho_factor(matrix, overwrite_a=True, check_finite=False)
        return factor, is_lower

    def weight(self, rows: StandardRows, factor: tuple[Array, bool], numbers: Array) -> Array:
        """Return the weights (dim,) with the least squares to centred numbers (n,)."""
        if self.few is not None:
            return np.asarray(self.few.T @ cho_solve(factor, numbers, check_finite=False)) / rows.num
        parts = rows.map(lambda chunk: numbers[rows.slices[chunk.number]] @ chunk.vectors)
        return np.asarray(cho_solve(factor, sum(parts) / rows.num, check_finite=False))


def path(
    rows: StandardRows, numbers: Array, l2_strengths: Sequence[float], *, loss: NumberLoss
) -> Iterator[tuple[float, tuple[Array, Array]]]:
    """Yield the strengths and their layers for features that are not standardised, from strong to weak.

    They minimise the mean loss + l2 / 2 * |weight|^2 over standardised features and numbers (n,); the bias is free.
    `squared` is half the square; `huber` is linear beyond HUBER_WIDTH. A layer has weight (1, dim) and bias (1,).
    """
    gram = rows.once("gram", Gram)
    for l2 in sorted(set(l2_strengths), reverse=True):
        weight, middle = solve(rows, gram, gram.factor(l2), numbers, loss=loss)
        yield l2, rows.fold(weight[None], np.array([middle]))


def solve(
    rows: StandardRows, gram: Gram, factor: tuple[Array, bool], numbers: Array, *, loss: NumberLoss
) -> tuple[Array, float]:  # fmt: skip
    """Return the weights (dim,) and the bias."""
    middle = float(numbers.mean())
    weight = gram.weight(rows, factor, numbers - middle)
    if loss == "squared":
        return weight, middle
    fit = scores(rows, weight) + middle
    for _ in range(MOST_ITERATIONS):
        pulled = fit + np.clip(numbers - fit, -HUBER_WIDTH, HUBER_WIDTH)
        middle = float(pulled.mean())
        weight = gram.weight(rows, factor, pulled - middle)
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
    return np.asarray(vectors.T @ vectors)
