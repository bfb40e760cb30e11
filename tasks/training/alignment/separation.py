"""Test whether a classifier separates the samples of two domains: covariate shift, found without labels.

Logistic regression is fitted on one half of the samples and judges the other ("Failing loudly", Rabanser et al. 2019;
classifier two-sample tests, Lopez-Paz and Oquab 2017).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits

from tasks.data.health.components import directions
from tasks.training.alignment.moments import Array, moments_of
from tasks.training.heads.logistic import Solver
from tasks.training.heads.rows import TrainingRows

NUM_COMPONENTS = 32
L2 = 0.01
MOST_SAMPLES = 4000  # of a domain, evenly drawn: more make the answer surer, but do not change it
MOST_ITERATIONS = 200
LEAST_SAMPLES = 4  # of a domain: two a fold


@dataclass(frozen=True, kw_only=True)
class Separation:
    """The area under the ROC curve of the classifier of domains, 0.5 by chance and 1.0 at most, and its z-score."""

    auc: float
    z: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A separation, and its grounds: the rows drawn from each side, and the logit that each is of the target."""

    separation: Separation
    source: tuple[NDArray[np.intp], Array]
    target: tuple[NDArray[np.intp], Array]


def tell_apart(source: NDArray[np.floating], target: NDArray[np.floating], *, seed: int) -> Separation:
    """Return how well a classifier separates source (n, dim) from target (m, dim).

    z is the distance of the area from 0.5 in standard errors under the hypothesis of no shift (Mann and Whitney 1947).
    The halves err together, because the samples of each teach the other's classifier. So their standard errors are
    added, which bounds that of the sum whatever the correlation is.
    """
    return compare(source, target, seed=seed).separation


def compare(source: NDArray[np.floating], target: NDArray[np.floating], *, seed: int) -> Comparison:
    """Return the result of `tell_apart`, with the logits of the samples."""
    generator = np.random.default_rng(seed)
    rows = [_drawn(len(part), generator) for part in (source, target)]
    n, m = map(len, rows)
    if min(n, m) < LEAST_SAMPLES:
        nothing = np.empty(0, np.intp), np.empty(0)
        return Comparison(separation=Separation(auc=0.5, z=0.0), source=nothing, target=nothing)
    scores, folds = cross_fitted_scores(source[rows[0]], target[rows[1]], seed=seed)
    domains = np.repeat([0, 1], [n, m])
    # each half has a classifier of its own, whose scores are comparable among themselves alone
    counts = [_wins(scores[folds == fold], domains[folds == fold]) for fold in (0, 1)]
    wins, pairs, error = (sum(part) for part in zip(*counts, strict=True))
    separation = Separation(auc=wins / pairs, z=(wins - pairs / 2) / error)
    return Comparison(separation=separation, source=(rows[0], scores[:n]), target=(rows[1], scores[n:]))


def cross_fitted_scores(
    source: NDArray[np.floating], target: NDArray[np.floating], *, seed: int
) -> tuple[Array, NDArray[np.int64]]:
    """Return the logits (n + m,) of being of the target, of the source's samples first, and the fold of each sample.

    Each half is judged by a classifier, principal components included, that learned from the other half. Both domains
    count the same in it, so that the exponential of a logit is a ratio of densities.
    """
    generator = np.random.default_rng(seed)
    vectors = np.concatenate([source, target]).astype(np.float32)
    domains = np.repeat([0, 1], [len(source), len(target)])
    folds = np.concatenate([generator.permutation(len(part)) % 2 for part in (source, target)])
    scores = np.empty(len(vectors))
    with threadpool_limits(1):
        for fold in (0, 1):
            learns = folds != fold
            scores[~learns] = _classifier(vectors[learns], domains[learns])(vectors[~learns])
    return scores, folds


def _drawn(num: int, generator: np.random.Generator) -> NDArray[np.intp]:
    if num <= MOST_SAMPLES:
        return np.arange(num)
    return np.sort(generator.choice(num, MOST_SAMPLES, replace=False))


def _classifier(
    vectors: NDArray[np.float32], domains: NDArray[np.int64]
) -> Callable[[NDArray[np.float32]], NDArray[np.floating]]:
    moments = moments_of(vectors)
    centred = moments.standardise(vectors)
    _, basis = directions(centred, most=NUM_COMPONENTS)
    solver = Solver(
        TrainingRows(centred @ basis, domains, ["source", "target"]), "balanced", max_iterations=MOST_ITERATIONS
    )
    weight, bias = solver.fold(solver.solve(L2))
    along = basis @ (weight[1] - weight[0])
    return lambda others: moments.standardise(others) @ along + (bias[1] - bias[0])


def _wins(scores: Array, domains: NDArray[np.int64]) -> tuple[float, int, float]:
    """Return how many pairs have the higher score on the target's side, of how many pairs, and the error by chance."""
    n, m = int((domains == 0).sum()), int((domains == 1).sum())
    ranks = rankdata(scores)
    return float(ranks[domains == 1].sum()) - m * (m + 1) / 2, n * m, math.sqrt(n * m * (n + m + 1) / 12)
