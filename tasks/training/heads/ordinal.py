"""The head for an ordered scale on frozen features: one score and the thresholds between the steps of the scale.

The model is the cumulative logit of proportional odds (McCullagh 1980): P(step <= k) = sigmoid(threshold_k - score),
score = weight @ vector. Its loss is convex in weight and thresholds together (Pratt 1981), so Newton's method finds
the one minimum.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit
from threadpoolctl import threadpool_limits

from tasks.training.heads.rows import Array, Chunk, Labels, TrainingRows, Vectors, check_finite

TOLERANCE = 1e-6  # nats: half the squared Newton decrement, an estimate of the excess over the least loss
MOST_ITERATIONS = 100
SUFFICIENT = 1e-4  # of the decrease that the slope promises (Armijo)
SHORTEST = 2.0**-30  # a step below it changes nothing that float64 shows
VAL_ROWS = 4096  # whose scores are computed at a time


@dataclass(frozen=True, kw_only=True)
class OrdinalHead:
    """score (n,) = vectors (n, dim) @ weight; step k lies between thresholds k - 1 and k, of (num_steps - 1,)."""

    weight: Array
    thresholds: Array
    l2: float
    val_log_loss: float | None  # nats; None where val has no labels

    def probabilities(self, vectors: NDArray[np.floating]) -> Array:
        """Return (n, num_steps) of vectors (n, dim)."""
        return step_probabilities(vectors @ self.weight, self.thresholds)


def fit_ordinal(
    train: tuple[Vectors, Labels], val: tuple[Vectors, Labels], l2_strengths: Sequence[float], *, steps: Sequence[str]
) -> OrdinalHead:
    """Return the head with the lowest log-loss on `val` among the L2 strengths; without val, the middle one.

    It minimises the mean negative log-likelihood + l2 / 2 * |weight|^2 over standardised features; thresholds are free.

    Args:
        train, val: (vectors (n, dim), steps (n,) in 0..num_steps-1).
        steps: the names of the steps, from the lowest to the highest, for messages.

    Raises:
        ValueError: a step without samples in train, fewer than two steps, or numbers that are not finite.
    """
    with threadpool_limits(1):  # each core works on other rows, so the bits do not depend on the number of cores
        rows = TrainingRows(*train, steps)
        strengths = sorted(set(l2_strengths), reverse=True)
        without_val = strengths[len(strengths) // 2]
        point, best = start(rows), None
        for l2 in strengths:
            point = solve(rows, l2, point=point)
            weight, shift = rows.fold(point[None, : rows.dim], np.zeros(1))
            thresholds = point[rows.dim :] - shift[0]
            loss = log_loss(weight[0], thresholds, val)
            head = OrdinalHead(weight=weight[0], thresholds=thresholds, l2=l2, val_log_loss=loss)
            if l2 == without_val if loss is None else best is None or loss < (best.val_log_loss or 0.0):
                best = head
        assert best is not None
        return best


def start(rows: TrainingRows) -> Array:
    """Return the best point (dim + num_steps - 1,) whose weight is 0: the thresholds that the steps' shares give."""
    below = np.cumsum(np.bincount(rows.labels, minlength=rows.num_classes))[:-1] / rows.num
    return np.concatenate([np.zeros(rows.dim), np.log(below / (1 - below))])


def solve(rows: TrainingRows, l2: float, *, point: Array) -> Array:
    """Return the minimum for one strength, by Newton's method with a line search from `point` on."""
    ridge = np.concatenate([np.full(rows.dim, l2), np.zeros(len(point) - rows.dim)])

    def objective(there: Array) -> float:
        if (np.diff(there[rows.dim :]) <= 0).any():
            return np.inf
        loss = sum(rows.map(lambda chunk: loss_of(chunk, there)))
        return loss / rows.num + float(ridge @ there**2) / 2

    value = objective(point)
    for _ in range(MOST_ITERATIONS):
        gradient, hessian = derivatives(rows, point)
        gradient += ridge * point
        hessian[np.diag_indices_from(hessian)] += ridge
        step = cho_solve(cho_factor(hessian, check_finite=False), gradient, check_finite=False)
        promised = float(gradient @ step)
        if promised / 2 <= TOLERANCE:
            break
        length = 1.0
        while (reached := objective(point - length * step)) > value - SUFFICIENT * length * promised:
            length /= 2
            if length < SHORTEST:
                return point
        point, value = point - length * step, reached
    return point


def derivatives(rows: TrainingRows, point: Array) -> tuple[Array, Array]:
    """Return the gradient (p,) and the second derivative (p, p) of the mean loss, p = dim + num_steps - 1."""
    gradient, hessian = np.zeros_like(point), np.zeros((len(point), len(point)))
    for first, second in rows.map(lambda chunk: derivatives_of(chunk, point)):
        gradient += first
        hessian += second
    return gradient / rows.num, hessian / rows.num


def loss_of(chunk: Chunk, point: Array) -> float:
    """Return the summed negative log-likelihood of a chunk, in nats."""
    dim = chunk.vectors.shape[1]
    return float(losses(chunk.vectors @ point[:dim].astype(np.float32), point[dim:], chunk.labels).sum())


def derivatives_of(chunk: Chunk, point: Array) -> tuple[Array, Array]:
    """Return the summed gradient and second derivative of a chunk. Features are multiplied in float32."""
    vectors, steps = chunk.vectors, chunk.labels
    dim, num = vectors.shape[1], len(point) - vectors.shape[1]
    scores = (vectors @ point[:dim].astype(np.float32)).astype(np.float64)
    upper, lower = bounds(scores, point[dim:], steps)
    above, below = expit(upper), expit(lower)
    spread = 1 - np.exp(lower - upper)
    high = (1 - above) / ((1 - below) * spread)  # density at the upper bound over the step's probability
    low = below / (above * spread)
    by_score = 1 - above - below
    rows = np.arange(len(steps))
    at = np.zeros((len(steps), num + 2))  # by threshold, with one below the lowest and one above the highest step
    at[rows, steps + 1], at[rows, steps] = -high, low
    mixed = np.zeros_like(at)
    mixed[rows, steps + 1] = -above * (1 - above)
    mixed[rows, steps] = -below * (1 - below)
    hessian = np.zeros((len(point), len(point)))
    curvature = above * (1 - above) + below * (1 - below)
    weighted = vectors * curvature.astype(np.float32)[:, None]
    hessian[:dim, :dim] = vectors.T @ weighted
    hessian[:dim, dim:] = vectors.T @ mixed[:, 1:-1].astype(np.float32)
    hessian[dim:, :dim] = hessian[:dim, dim:].T
    own = at[:, 1:-1].T @ at[:, 1:-1]
    own[np.diag_indices(num)] += np.bincount(steps, -high * (1 - 2 * above), num + 1)[:num]
    own[np.diag_indices(num)] += np.bincount(steps, low * (1 - 2 * below), num + 1)[1:]
    hessian[dim:, dim:] = own
    return np.concatenate([by_score @ vectors, at[:, 1:-1].sum(axis=0)]), hessian


def bounds(scores: Array, thresholds: Array, steps: Labels) -> tuple[Array, Array]:
    """Return the thresholds above and below each step (n,), minus its score; infinite at the ends of the scale."""
    ends = np.concatenate([[-np.inf], thresholds, [np.inf]])
    return ends[steps + 1] - scores, ends[steps] - scores


def losses(scores: NDArray[np.floating], thresholds: Array, steps: Labels) -> Array:
    """Return the negative log-likelihood (n,) in nats of steps (n,) with scores (n,)."""
    upper, lower = bounds(np.asarray(scores, np.float64), thresholds, steps)
    # sigmoid(upper) - sigmoid(lower), as a product: the difference of two numbers near 1 would have no digits left
    with np.errstate(divide="ignore"):
        return -(log_sigmoid(upper) + log_sigmoid(-lower) + np.log1p(-np.exp(lower - upper)))


def step_probabilities(scores: NDArray[np.floating], thresholds: Array) -> Array:
    """Return the probabilities (n, num_steps) of each step, for scores (n,)."""
    below = expit(thresholds - np.asarray(scores, np.float64)[:, None])
    ends = np.concatenate([np.zeros((len(below), 1)), below, np.ones((len(below), 1))], axis=1)
    return np.diff(ends, axis=1)


def log_loss(weight: Array, thresholds: Array, val: tuple[Vectors, Labels]) -> float | None:
    """Return the mean log-loss over val in nats; None without labels."""
    vectors, steps = val
    if not len(steps):
        return None
    total = 0.0
    for first in range(0, len(steps), VAL_ROWS):
        chunk = vectors[first : first + VAL_ROWS]
        check_finite(chunk)
        total += float(losses(chunk @ weight, thresholds, steps[first : first + VAL_ROWS]).sum())
    return total / len(steps)


def log_sigmoid(values: Array) -> Array:
    return -np.logaddexp(0, -values)
