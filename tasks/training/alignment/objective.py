"""A linear layer that fits weighted answers, stays near another layer, and may be sure of unlabelled samples, too."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from tasks.targets.classes import log_probabilities
from tasks.training.alignment.domains import Array, Labels

Layer = tuple[Array, Array]  # weight (k, dim), bias (k,)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Vectors (n, dim), the share (n, k) of each class in the answer to each of them, and how much they count (n,)."""

    vectors: NDArray[np.float32]
    shares: Array
    weights: Array

    @classmethod
    def labelled(
        cls, vectors: NDArray[np.float32], labels: Labels, *, num_classes: int, weights: Array | None = None
    ) -> "Answered":
        """Return rows whose answers are their labels (n,). By default a row counts 1 / n."""
        counts = np.full(len(labels), 1 / len(labels)) if weights is None else weights
        return cls(vectors=vectors, shares=np.eye(num_classes)[labels], weights=counts)

    def __add__(self, others: "Answered") -> "Answered":
        parts = ((getattr(rows, name) for rows in (self, others)) for name in ("vectors", "shares", "weights"))
        vectors, shares, weights = (np.concatenate(list(part)) for part in parts)
        return Answered(vectors=vectors, shares=shares, weights=weights)


def fit_layer(
    rows: Answered, *, start: Layer, l2: float, towards: Layer | None = None, most_steps: int,
    unlabelled: NDArray[np.float32] | None = None, strength: float = 0.0, expected: Array | None = None,
) -> Layer:  # fmt: skip
    """Return the layer with the least loss that L-BFGS finds in so many steps from `start` on.

    The loss is the weighted cross-entropy of the rows, plus l2 / 2 * |weight - that of `towards`|^2, minus `strength`
    times the information that answers on `unlabelled` (m, dim) carry: the entropy of the mean answer minus the mean
    entropy of an answer (Krause et al. 2010), or, with the `expected` shares (k,) of the classes, minus the divergence
    of the mean answer from them. With information the loss has no single minimum, and the start counts.
    """
    num_classes, dim = start[0].shape
    centre = np.zeros((num_classes, dim)) if towards is None else towards[0]

    def loss(flat: Array) -> tuple[float, Array]:
        weight, bias = np.split(flat.reshape(num_classes, dim + 1), [dim], axis=1)
        value, slope = cross_entropy(rows, logits_of(rows.vectors, weight, bias))
        of_weight, of_bias = slope.T.astype(np.float32) @ rows.vectors, slope.sum(axis=0)
        if unlabelled is not None:
            information, slope = information_of(logits_of(unlabelled, weight, bias), expected)
            value -= strength * information
            of_weight -= strength * (slope.T.astype(np.float32) @ unlabelled)
            of_bias -= strength * slope.sum(axis=0)
        apart = weight - centre
        gradient = np.concatenate([of_weight + l2 * apart, of_bias[:, None]], axis=1)
        return value + l2 / 2 * float((apart**2).sum()), gradient.ravel()

    point = np.concatenate([start[0], start[1][:, None]], axis=1).ravel()
    solution = minimize(loss, point, jac=True, method="L-BFGS-B", options={"maxiter": most_steps})
    weight, bias = np.split(solution.x.reshape(num_classes, dim + 1), [dim], axis=1)
    return weight, bias[:, 0]


def logits_of(vectors: NDArray[np.float32], weight: Array, bias: Array) -> Array:
    return np.asarray(vectors @ weight.T.astype(np.float32) + bias[:, 0])


def cross_entropy(rows: Answered, logits: Array) -> tuple[float, Array]:
    """Return the weighted sum over the rows, in nats, and its slope (n, k) by the logits."""
    log_p = log_probabilities(logits)
    weighted = rows.weights[:, None] * rows.shares
    slope = np.exp(log_p) * weighted.sum(axis=1, keepdims=True) - weighted
    return -float((weighted * log_p).sum()), slope


def information_of(logits: Array, expected: Array | None = None) -> tuple[float, Array]:
    """Return the information in nats, and its slope (m, k) by the logits.

    It is the entropy of the mean answer minus the mean entropy, or, with `expected` shares (k,), minus the
    Kullback-Leibler divergence of the mean answer from them and minus the mean entropy.
    """
    log_p = log_probabilities(logits)
    p = np.exp(log_p)
    mean = np.maximum(p.mean(axis=0), 1e-12)
    log_mean = np.log(mean if expected is None else mean / expected)
    information = float((p * log_p).sum(axis=1).mean() - mean @ log_mean)
    inner = log_p - log_mean  # the slope by a probability, but for constants
    return information, p * (inner - (p * inner).sum(axis=1, keepdims=True)) / len(p)
