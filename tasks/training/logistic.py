"""The head on frozen features: multinomial logistic regression. Vectors and labels in, a linear layer out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

Array = NDArray[np.float64]

SMALLEST_SCALE = 0.01  # of the largest: a feature that hardly varies is not blown up to count as much as the others


@dataclass(frozen=True, kw_only=True)
class LinearHead:
    """logits (n, num_classes) = vectors (n, dim) @ weight.T + bias."""

    weight: Array  # (num_classes, dim)
    bias: Array  # (num_classes,)
    l2: float
    val_log_loss: float

    def log_probabilities(self, vectors: Array) -> Array:
        """(n, dim) -> (n, num_classes)."""
        return np.asarray(log_softmax(vectors @ self.weight.T + self.bias, axis=1))


def fit_head(
    train: tuple[Array, NDArray[np.int64]],
    val: tuple[Array, NDArray[np.int64]],
    *,
    num_classes: int,
    l2_strengths: Sequence[float],
    max_iterations: int,
) -> LinearHead:
    """The head with the lowest log-loss on `val` along a path of L2 strengths, from strong to weak, each solved from
    the solution before it.

    Minimises mean cross-entropy + l2 / 2 * |weight|^2 over standardised features (mean 0 and variance 1 on train,
    less for one that hardly varies; the bias is free); the standardisation is folded back into the weights.

    Args:
        train, val: (vectors (n, dim) float64, labels (n,) in 0..num_classes-1).

    Raises:
        ValueError: fewer than two classes in train, or numbers that are not finite.
    """
    vectors, labels = train
    if len(np.unique(labels)) < 2:
        raise ValueError(f"train has {len(np.unique(labels))} class, expected at least 2: add samples of another class")
    if not (np.isfinite(vectors).all() and np.isfinite(val[0]).all()):
        raise ValueError("the embeddings have numbers that are not finite: run embed again")
    mean = vectors.mean(axis=0)
    scale = vectors.std(axis=0)
    scale = np.maximum(scale, max(SMALLEST_SCALE * scale.max(), SMALLEST_SCALE**4))
    standardised = (vectors - mean) / scale
    parameters = np.zeros(num_classes * (vectors.shape[1] + 1))
    best: LinearHead | None = None
    for l2 in sorted(l2_strengths, reverse=True):
        parameters = _solve(standardised, labels, num_classes, l2, parameters, max_iterations)
        weight, bias = _unpack(parameters, num_classes)
        weight = weight / scale
        head = LinearHead(weight=weight, bias=bias - weight @ mean, l2=l2, val_log_loss=0.0)
        loss = -float(head.log_probabilities(val[0])[np.arange(len(val[1])), val[1]].mean())
        if best is None or loss < best.val_log_loss:
            best = LinearHead(weight=head.weight, bias=head.bias, l2=l2, val_log_loss=loss)
    assert best is not None
    return best


def _solve(
    vectors: Array, labels: NDArray[np.int64], num_classes: int, l2: float, start: Array, max_iterations: int
) -> Array:
    n = len(vectors)
    rows = np.arange(n)

    def objective(parameters: Array) -> tuple[float, Array]:
        weight, bias = _unpack(parameters, num_classes)
        log_probabilities = log_softmax(vectors @ weight.T + bias, axis=1)
        residual = np.exp(log_probabilities)  # (n, num_classes)
        residual[rows, labels] -= 1
        residual /= n
        value = -log_probabilities[rows, labels].mean() + l2 / 2 * (weight**2).sum()
        gradient = np.hstack([residual.T @ vectors + l2 * weight, residual.sum(axis=0)[:, None]])
        return float(value), gradient.ravel()

    solution = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": max_iterations})
    return np.asarray(solution.x)


def _unpack(parameters: Array, num_classes: int) -> tuple[Array, Array]:
    both = parameters.reshape(num_classes, -1)
    return both[:, :-1], both[:, -1]
