"""Linear discriminant analysis, out of fold: what a head says of samples that it did not learn from.

It is the head that is had without a search: a pass over the vectors gives the moments of all folds, and what a fold
leaves out is subtracted (Fisher 1936; the covariance that all classes share is shrunk towards a multiple of the
identity, Friedman 1989). A share of wrong labels that is the same for all classes moves its boundaries little, because
it draws all means towards one point.
"""

from dataclasses import dataclass
from functools import partial, reduce
from operator import add

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from threadpoolctl import threadpool_limits

from tasks.targets.classes import log_probabilities
from tasks.targets.temperature import fit_temperature
from tasks.training.heads.rows import Array, Chunk, StandardRows

SHRINKAGE = 0.3  # of the covariance towards the identity; `benchmarks.health` has what it finds
LEAST_COUNT = 0.5  # of a class, that its prior counts where no sample of it is left


@dataclass(frozen=True)
class Moments:
    """The sums that a fold adds: samples (num_classes,) and vectors (num_classes, dim) of each class, and squares."""

    counts: Array
    sums: Array
    squares: Array  # (dim, dim)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.counts + other.counts, self.sums + other.sums, self.squares + other.squares)

    def __sub__(self, other: "Moments") -> "Moments":
        return Moments(self.counts - other.counts, self.sums - other.sums, self.squares - other.squares)


def out_of_fold(
    rows: StandardRows,
    labels: NDArray[np.int64],
    folds: NDArray[np.int64],
    *,
    num_classes: int,
    learns: NDArray[np.bool_] | None = None,
) -> Array:
    """Return the calibrated log-probabilities (n, num_classes), those of a sample by the samples of other folds.

    Args:
        labels: (n,) in 0..num_classes-1, or below 0 for a sample that is only judged; n is at least 1.
        folds: (n,) from 0 on.
        learns: (n,) the samples that are learned from; None is all with a label.
    """
    is_learned = labels >= 0 if learns is None else learns & (labels >= 0)
    num_folds = int(folds.max()) + 1

    def moments(fold: int, chunk: Chunk) -> Moments:
        own = rows.slices[chunk.number]
        chosen = is_learned[own] & (folds[own] == fold)
        return _moments(chunk.vectors[chosen], labels[own][chosen], num_classes)

    with threadpool_limits(1):  # each core works on other chunks, so that no sum depends on the number of cores
        parts = [reduce(add, rows.map(partial(moments, fold))) for fold in range(num_folds)]
        whole = reduce(add, parts)
        layers = [_layer(whole - part) for part in parts]

        def logits(chunk: Chunk) -> Array:
            own = folds[rows.slices[chunk.number]]
            said = np.empty((len(own), num_classes))
            for fold, (weight, bias) in enumerate(layers):
                said[own == fold] = chunk.vectors[own == fold] @ weight.T.astype(np.float32) + bias
            return said

        found = np.concatenate(list(rows.map(logits)))
    temperature = fit_temperature(found[is_learned], labels[is_learned])
    return np.asarray(log_probabilities(found / temperature), dtype=np.float64)


def _moments(vectors: NDArray[np.float32], labels: NDArray[np.int64], num_classes: int) -> Moments:
    sums = np.zeros((num_classes, vectors.shape[1]))
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    if len(present):
        sums[present] = np.add.reduceat(vectors[order].astype(np.float64), starts, axis=0)
    squares = (vectors.T @ vectors).astype(np.float64)
    return Moments(np.bincount(labels, minlength=num_classes).astype(float), sums, squares)


def _layer(moments: Moments) -> tuple[Array, Array]:
    """Return weight (num_classes, dim) and bias (num_classes,) of the discriminant."""
    num, dim = moments.counts.sum(), moments.sums.shape[1]
    means = moments.sums / np.maximum(moments.counts, 1)[:, None]
    within = (moments.squares - means.T @ moments.sums) / max(num, 1)
    shrunk = (1 - SHRINKAGE) * within + SHRINKAGE * max(np.trace(within) / dim, 1e-6) * np.eye(dim)
    weight = cho_solve(cho_factor(shrunk), means.T).T
    prior = np.log(np.maximum(moments.counts, LEAST_COUNT) / max(num, 1))
    return weight, prior - (means * weight).sum(axis=1) / 2
