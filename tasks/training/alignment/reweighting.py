"""Weigh source samples by how much likelier they are in the target domain: importance weighting (Shimodaira 2000).

It pays where the domains overlap. The effective sample size shows whether they do.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize

from tasks.training.alignment.domains import Array
from tasks.training.alignment.moments import moments_of
from tasks.training.alignment.separation import cross_fitted_scores

LEAST_ODDS = 0.05  # of being of the target, for the source sample most like the target: below it none is like it
EFFECTIVE_SHARE = 0.3  # of the source samples that flattened weights are worth
MOST_WEIGHT = 10.0  # of a sample, with a kernel
KERNEL_PENALTY = 1.0  # of a mean weight other than 1
LEAST_LIKENESS = 1e-3  # mean kernel of the source sample most like the target: below it none is like it
MOST_ROWS = 5000  # samples of the sources that the kernel compares, drawn by chance; the others get no weight
NUM_CENTRES = 1000  # samples of the target that the kernel compares with, drawn by chance


def classifier_weights(source: NDArray[np.float32], target: NDArray[np.float32], *, seed: int) -> Array:
    """Return weights (n,), 1 on average, from the cross-fitted classifier of domains (Bickel et al. 2009).

    All are 0 where no source sample resembles the target.
    """
    logits = cross_fitted_scores(source, target, seed=seed)[0][: len(source)]
    if logits.max() < np.log(LEAST_ODDS):
        return np.zeros(len(source))
    return _to_one(np.exp(logits - logits.max()))


def kernel_weights(source: NDArray[np.float32], target: NDArray[np.float32], *, seed: int) -> Array:
    """Return weights (n,), 1 on average, that bring the source's mean to the target's in a kernel's space.

    It is kernel mean matching (Huang et al. 2006) with a Gaussian kernel, whose width is the median distance of
    samples of the target. A weight lies in 0..MOST_WEIGHT; all are 0 where no source sample resembles the target.
    """
    generator = np.random.default_rng(seed)
    if len(source) > MOST_ROWS:
        drawn = np.sort(generator.choice(len(source), MOST_ROWS, replace=False))
        weights = np.zeros(len(source))
        weights[drawn] = kernel_weights(source[drawn], target, seed=seed)
        return _to_one(weights)
    moments = moments_of(np.concatenate([source, target]))
    rows, centres = moments.standardise(source), moments.standardise(target)
    if len(centres) > NUM_CENTRES:
        centres = centres[np.sort(generator.choice(len(centres), NUM_CENTRES, replace=False))]
    width = np.median(_squares(centres, centres)) or 1.0
    kernel = np.exp(_squares(rows, rows) / -width)
    wanted = np.exp(_squares(rows, centres) / -width).mean(axis=1)
    n = len(rows)
    if wanted.max() < LEAST_LIKENESS:
        return np.zeros(n)

    def distance(weights: Array) -> tuple[float, Array]:
        pulled = kernel @ weights / n
        excess = weights.mean() - 1
        value = weights @ pulled / (2 * n) - weights @ wanted / n + KERNEL_PENALTY / 2 * excess**2
        return float(value) * n, pulled - wanted + KERNEL_PENALTY * excess

    solution = minimize(
        distance, np.ones(n), jac=True, method="L-BFGS-B", bounds=[(0, MOST_WEIGHT)] * n, options={"maxiter": 100}
    )
    return _to_one(solution.x)


def flattened(weights: Array) -> Array:
    """Return the weights to the highest power up to 1 at which they are worth EFFECTIVE_SHARE of the samples.

    Weights of domains that hardly overlap let a few samples speak for all; a power below 1 (Shimodaira 2000) trades
    their variance for a bias to the source.
    """
    wanted = EFFECTIVE_SHARE * len(weights)
    logs = np.log(np.maximum(weights, 1e-12))
    if effective_samples(weights) >= wanted:
        return weights
    power = brentq(lambda power: effective_samples(np.exp(power * logs)) - wanted, 0.0, 1.0)
    return _to_one(np.exp(power * logs))


def effective_samples(weights: Array) -> float:
    """Return how many samples of equal weight carry as much information as these (Kish 1965)."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def _to_one(weights: Array) -> Array:
    """Scale the weights to a mean of 1; weights that are all 0 stay 0."""
    mean = weights.mean()
    return np.asarray(weights / mean if mean > 0 else weights)


def _squares(rows: NDArray[np.float32], others: NDArray[np.float32]) -> Array:
    """Return the squared distances (n, m)."""
    squares = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * rows @ others.T
    return np.asarray(np.maximum(squares, 0), np.float64)
