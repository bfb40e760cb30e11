"""Move a head until it is sure of the target domain's samples and spreads them over the classes.

The loss is that of the source's labels plus a strength times the information that answers on the target carry: mean
entropy of an answer minus entropy of the mean answer ("Discriminative clustering by regularized information
maximization", Krause et al. 2010; SHOT, Liang et al. 2020).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from tasks.targets.classes import log_probabilities
from tasks.training.alignment.moments import Array

STRENGTH = 0.3
MOST_STEPS = 25  # of L-BFGS: the loss has no single minimum, and the start is a good head


def maximise_information(
    source: Array, labels: NDArray[np.int64], target: Array, *, weight: Array, bias: Array, l2: float,
    strength: float = STRENGTH,
) -> tuple[Array, Array]:  # fmt: skip
    """Return weight (k, dim) and bias (k,) of the head that starts at these.

    Args:
        source: (n, dim), standardised, with labels (n,) in 0..k-1.
        target: (m, dim), standardised by itself, unlabelled.
        l2: half of it times |weight|^2 is added, as the head was trained.
    """
    num_classes, dim = weight.shape
    source, target = (np.asarray(part, np.float32) for part in (source, target))
    rows = np.arange(len(labels))

    def loss(flat: Array) -> tuple[float, Array]:
        point = flat.reshape(num_classes, dim + 1)
        own, shift = point[:, :-1].astype(np.float32), point[:, -1]
        log_p = log_probabilities((source @ own.T).astype(np.float64) + shift)
        value = -float(log_p[rows, labels].mean())
        slope = np.exp(log_p)
        slope[rows, labels] -= 1
        slope /= len(labels)
        log_q = log_probabilities((target @ own.T).astype(np.float64) + shift)
        q = np.exp(log_q)
        mean = q.mean(axis=0)
        log_mean = np.log(np.maximum(mean, 1e-12))
        value += strength * float(mean @ log_mean - (q * log_q).sum(axis=1).mean())
        inner = log_mean - log_q  # the slope of the information by an answer's probabilities, but for constants
        pull = strength * q * (inner - (q * inner).sum(axis=1, keepdims=True)) / len(q)
        gradient = np.concatenate(
            [
                slope.T.astype(np.float32) @ source + pull.T.astype(np.float32) @ target,
                (slope.sum(axis=0) + pull.sum(axis=0))[:, None],
            ],
            axis=1,
        ).astype(np.float64)
        gradient[:, :-1] += l2 * point[:, :-1]
        return value + l2 / 2 * float((point[:, :-1] ** 2).sum()), gradient.ravel()

    start = np.concatenate([weight, bias[:, None]], axis=1).ravel()
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": MOST_STEPS})
    point = found.x.reshape(num_classes, dim + 1)
    return point[:, :-1], point[:, -1]
