"""The head for a number on frozen features: ridge regression, in closed form for every strength at once.

A robust loss (Huber 1964) weighs rows down that lie far off, again and again until nothing moves (iteratively
reweighted least squares, Holland & Welsch 1977).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from threadpoolctl import threadpool_limits

from tasks.training.heads.rows import Array, Chunk, StandardRows, Vectors, check_finite

NumberLoss = Literal["squared", "huber"]
HUBER_WIDTH = 1.345  # standard deviations: 95 % as exact as least squares where the errors are normal (Huber 1964)
MEDIAN_TO_DEVIATION = 1.4826  # of normal numbers, from the median of their distances to the median
MOST_REWEIGHTINGS = 20
SETTLED = 1e-4  # of a row's weight
VAL_ROWS = 4096  # that are predicted at a time


@dataclass(frozen=True, kw_only=True)
class NumberHead:
    """number (n,) = vectors (n, dim) @ weight + bias, in the target's own unit."""

    weight: Array
    bias: float
    l2: float
    val_error: float | None  # mean loss on val, in the squared standard deviation of train; None without val

    def predict(self, vectors: NDArray[np.floating]) -> Array:
        """Return the numbers (n,) of vectors (n, dim)."""
        return np.asarray(vectors @ self.weight + self.bias)


def fit_number(
    train: tuple[Vectors, Array], val: tuple[Vectors, Array], l2_strengths: Sequence[float], *, loss: NumberLoss
) -> NumberHead:
    """Return the head with the lowest mean loss on `val` among the L2 strengths; without val, the middle one.

    It minimises mean loss + l2 / 2 * |weight|^2 over features and numbers that are standardised on train; the bias is
    free. `squared` is half the square; `huber` is linear beyond HUBER_WIDTH robust standard deviations.

    Args:
        train, val: (vectors (n, dim), numbers (n,)).

    Raises:
        ValueError: fewer than two different numbers in train, or numbers that are not finite.
    """
    vectors, numbers = train
    check_numbers(numbers)
    with threadpool_limits(1):  # each core works on other rows, so the bits do not depend on the number of cores
        rows = StandardRows(vectors)
        centre, scale = float(numbers.mean()), float(numbers.std())
        target = (numbers - centre) / scale
        strengths = sorted(set(l2_strengths), reverse=True)
        without_val = strengths[len(strengths) // 2]
        weights = np.ones(rows.num)
        least_squares = solve(rows, target, weights, strengths)
        best: NumberHead | None = None
        for l2, (weight, bias) in zip(strengths, least_squares, strict=True):
            if loss == "huber":
                weight, bias = reweighted(rows, target, l2, weight=weight, bias=bias)
            own, shift = rows.fold(scale * weight[None], np.array([scale * bias + centre]))
            error = mean_error(own[0], shift[0], val, scale=scale, loss=loss)
            head = NumberHead(weight=own[0], bias=float(shift[0]), l2=l2, val_error=error)
            if l2 == without_val if error is None else best is None or error < (best.val_error or 0.0):
                best = head
        assert best is not None
        return best


def solve(rows: StandardRows, target: Array, weights: Array, strengths: Sequence[float]) -> list[tuple[Array, float]]:
    """Return weight (dim,) and bias of weighted ridge regression for each strength, from one decomposition.

    With fewer rows than features the decomposition is that of the products (n, n) of the rows.
    """
    total = weights.sum()
    means = sum(rows.map(lambda chunk: weights[rows.slices[chunk.number]] @ chunk.vectors)) / total  # (dim,)
    middle = float(weights @ target) / total
    right = np.sqrt(weights / rows.num) * (target - middle)
    if rows.num < rows.dim:
        few = np.concatenate([chunk.astype(np.float64) for chunk in rows.map(lambda chunk: chunk.vectors)]) - means
        few *= np.sqrt(weights / rows.num)[:, None]
        values, basis = eigh(few @ few.T, check_finite=False)
        along = basis.T @ right
        solved = [few.T @ (basis @ (along / (np.maximum(values, 0) + l2))) for l2 in strengths]
    else:
        products, sums = np.zeros((rows.dim, rows.dim)), np.zeros(rows.dim)

        def part(chunk: Chunk) -> tuple[NDArray[np.float32], Array]:
            centred = (chunk.vectors - means).astype(np.float32)
            centred *= np.sqrt(weights[rows.slices[chunk.number]] / rows.num).astype(np.float32)[:, None]
            return centred.T @ centred, right[rows.slices[chunk.number]] @ centred

        for product, of_target in rows.map(part):
            products += product
            sums += of_target
        values, basis = eigh(products, check_finite=False)
        along = basis.T @ sums
        solved = [basis @ (along / (np.maximum(values, 0) + l2)) for l2 in strengths]
    return [(weight, middle - float(weight @ means)) for weight in solved]


def reweighted(rows: StandardRows, target: Array, l2: float, *, weight: Array, bias: float) -> tuple[Array, float]:
    """Return the minimum of Huber's loss for one strength, from a least-squares solution on."""
    weights = np.ones(rows.num)
    for _ in range(MOST_REWEIGHTINGS):
        errors = np.abs(target - scores(rows, weight) - bias)
        width = HUBER_WIDTH * MEDIAN_TO_DEVIATION * float(np.median(errors))
        new = np.minimum(1.0, width / np.maximum(errors, 1e-12))
        if np.abs(new - weights).max() <= SETTLED:
            break
        weights = new
        [(weight, bias)] = solve(rows, target, weights, [l2])
    return weight, bias


def scores(rows: StandardRows, weight: Array) -> Array:
    return np.concatenate(list(rows.map(lambda chunk: chunk.vectors @ weight)))


def mean_error(
    weight: Array, bias: float, val: tuple[Vectors, Array], *, scale: float, loss: NumberLoss
) -> float | None:
    """Return the mean loss over val of numbers in units of `scale`; None without numbers."""
    vectors, numbers = val
    if not len(numbers):
        return None
    parts = []
    for first in range(0, len(numbers), VAL_ROWS):
        chunk = vectors[first : first + VAL_ROWS]
        check_finite(chunk)
        parts.append(np.abs(numbers[first : first + VAL_ROWS] - (chunk @ weight + bias)) / scale)
    errors = np.concatenate(parts)
    if loss == "squared":
        return float((errors**2).mean() / 2)
    width = HUBER_WIDTH * MEDIAN_TO_DEVIATION * float(np.median(errors))
    return float(np.where(errors <= width, errors**2 / 2, width * (errors - width / 2)).mean())


def check_numbers(numbers: Array) -> None:
    if not np.isfinite(numbers).all():
        raise ValueError("train has numbers that are not finite: mend these labels, or take them out")
    if len(numbers) < 2 or not np.ptp(numbers):
        found = f"the one number {numbers[0]:g}" if len(numbers) else "no number"
        raise ValueError(f"train has {found}, expected at least two different ones: label more samples")
