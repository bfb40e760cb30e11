"""The head for an ordered scale on frozen features: one score and the thresholds between the steps of the scale.

The model is the cumulative logit of proportional odds (McCullagh 1980): P(step <= k) = sigmoid(threshold_k - score),
score = weight @ vector. Its loss is convex in weight and thresholds together (Pratt 1981), so Newton's method finds
the one minimum.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

from tasks.training.heads.options import ClassWeights
from tasks.training.heads.rows import Array, Chunk, Labels, TrainingRows

TOLERANCE = 1e-6  # nats: half the squared Newton decrement, an estimate of the excess over the least loss
MOST_ITERATIONS = 100
SUFFICIENT = 1e-4  # of the decrease that the slope promises (Armijo)
SHORTEST = 2.0**-30  # a step below it changes nothing that float64 shows


class Cumulative:
    """The mean negative log-likelihood of steps (n,) over rows. A point is (dim + num_steps - 1,), thresholds last.

    With fewer rows than features, a point lies in the space of the rows, where all minima lie, too.

    Args:
        class_weights: balanced gives every step the same weight in all.
    """

    def __init__(self, rows: TrainingRows, class_weights: ClassWeights = "none") -> None:
        self.rows, self.num_steps = rows, rows.num_outputs
        counts = np.bincount(rows.labels, minlength=self.num_steps)
        self.step_weights = (
            rows.num / (self.num_steps * counts) if class_weights == "balanced" else np.ones(len(counts))
        )
        self.basis = rows.once("basis", basis_of) if rows.num < rows.dim else None  # (dim, n)
        self.dim = rows.num if self.basis is not None else rows.dim

    def path(self, l2_strengths: Sequence[float]) -> Iterator[tuple[float, tuple[Array, Array]]]:
        """Yield the strengths and their layers for features that are not standardised, from strong to weak.

        They minimise the mean loss + l2 / 2 * |weight|^2 over standardised features; thresholds are free. A layer has
        weight (num_steps - 1, dim), whose rows are equal, and bias (num_steps - 1,).
        """
        point = self.start()
        for l2 in sorted(set(l2_strengths), reverse=True):
            point = self.solve(l2, point=point)
            yield l2, self.layer(point)

    def layer(self, point: Array) -> tuple[Array, Array]:
        weight = point[: self.dim] if self.basis is None else self.basis @ point[: self.dim]
        return self.rows.fold(np.tile(weight, (self.num_steps - 1, 1)), -point[self.dim :])

    def start(self) -> Array:
        """Return the best point whose weight is 0: the thresholds that the steps' shares give."""
        counts = np.bincount(self.rows.labels, minlength=self.num_steps) * self.step_weights
        below = np.cumsum(counts)[:-1] / self.rows.num
        return np.concatenate([np.zeros(self.dim), np.log(below / (1 - below))])

    def solve(self, l2: float, *, point: Array) -> Array:
        """Return the minimum for one strength, by Newton's method with a line search from `point` on."""
        ridge = np.concatenate([np.full(self.dim, l2), np.zeros(len(point) - self.dim)])
        value = self.objective(point, l2)
        for _ in range(MOST_ITERATIONS):
            gradient, hessian = self.derivatives(point)
            gradient += ridge * point
            hessian[np.diag_indices_from(hessian)] += ridge
            step = cho_solve(cho_factor(hessian, check_finite=False), gradient, check_finite=False)
            promised = float(gradient @ step)
            if promised / 2 <= TOLERANCE:
                break
            length = 1.0
            while (reached := self.objective(point - length * step, l2)) > value - SUFFICIENT * length * promised:
                length /= 2
                if length < SHORTEST:
                    return point
            point, value = point - length * step, reached
        return point

    def objective(self, point: Array, l2: float) -> float:
        if (np.diff(point[self.dim :]) <= 0).any():
            return np.inf
        weight, thresholds = point[: self.dim].astype(np.float32), point[self.dim :]

        def loss_of(chunk: Chunk) -> float:
            losses_of_rows = losses(self.features(chunk) @ weight, thresholds, chunk.labels)
            return float(self.step_weights[chunk.labels] @ losses_of_rows)

        return sum(self.rows.map(loss_of)) / self.rows.num + l2 / 2 * float((point[: self.dim] ** 2).sum())

    def features(self, chunk: Chunk) -> NDArray[np.float32]:
        return chunk.vectors if self.basis is None else chunk.vectors @ self.basis

    def derivatives(self, point: Array) -> tuple[Array, Array]:
        """Return the gradient (p,) and the second derivative (p, p) of the mean loss, p = dim + num_steps - 1."""
        gradient, hessian = np.zeros_like(point), np.zeros((len(point), len(point)))
        for first, second in self.rows.map(
            lambda chunk: derivatives_of(self.features(chunk), chunk.labels, self.step_weights[chunk.labels], point)
        ):
            gradient += first
            hessian += second
        return gradient / self.rows.num, hessian / self.rows.num


def basis_of(rows: TrainingRows) -> NDArray[np.float32]:
    """Return an orthonormal basis (dim, n) of the standardised rows, fewer than features."""
    stacked = np.concatenate(list(rows.map(lambda chunk: chunk.vectors))).astype(np.float64)
    return np.asarray(np.linalg.qr(stacked.T)[0], np.float32)


def derivatives_of(vectors: NDArray[np.float32], steps: Labels, weights: Array, point: Array) -> tuple[Array, Array]:
    """Return the summed gradient and second derivative of rows that count `weights`. Features multiply in float32."""
    dim, num = vectors.shape[1], len(point) - vectors.shape[1]
    scores = (vectors @ point[:dim].astype(np.float32)).astype(np.float64)
    upper, lower = bounds(scores, point[dim:], steps)
    above, below = expit(upper), expit(lower)
    # the densities at both bounds over the step's probability, as products: a difference has no digits left far out
    spread = -np.expm1(lower - upper)
    high = weights * expit(-upper) / (expit(-lower) * spread)
    low = weights * below / (above * spread)
    by_score = weights * (1 - above - below)
    rows = np.arange(len(steps))
    at = np.zeros((len(steps), num + 2))  # by threshold, with one below the lowest and one above the highest step
    at[rows, steps + 1], at[rows, steps] = -high, low
    mixed = np.zeros_like(at)
    mixed[rows, steps + 1] = -weights * above * (1 - above)
    mixed[rows, steps] = -weights * below * (1 - below)
    hessian = np.zeros((len(point), len(point)))
    curvature = weights * (above * (1 - above) + below * (1 - below))
    weighted = vectors * curvature.astype(np.float32)[:, None]
    hessian[:dim, :dim] = vectors.T @ weighted
    hessian[:dim, dim:] = vectors.T @ mixed[:, 1:-1].astype(np.float32)
    hessian[dim:, :dim] = hessian[:dim, dim:].T
    block = at[:, 1:-1].T @ (at[:, 1:-1] / weights[:, None])
    block[np.diag_indices(num)] += np.bincount(steps, -high * (1 - 2 * above), num + 1)[:num]
    block[np.diag_indices(num)] += np.bincount(steps, low * (1 - 2 * below), num + 1)[1:]
    hessian[dim:, dim:] = block
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


def log_sigmoid(values: Array) -> Array:
    return -np.logaddexp(0, -values)
