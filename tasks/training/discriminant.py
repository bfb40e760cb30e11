"""Linear discriminant analysis, out of fold: the answers of a head to samples that it did not learn from.

This head needs no search: a pass over the vectors gives the moments of all folds, and those of the fold that is left
out are subtracted (Fisher 1936; the covariance that all classes share is shrunk towards a multiple of the identity,
Friedman 1989). A share of wrong labels that is the same for all classes moves its boundaries little, because it draws
all means towards one point.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import iadd
from typing import Any, Self

import numpy as np
import scipy.optimize  # noqa: F401  which `fit_temperature` needs: imported here, no fork of a verb waits for it
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from threadpoolctl import threadpool_limits

from tasks.machine.cores import spread
from tasks.targets.classes import log_probabilities
from tasks.targets.temperature import fit_temperature
from tasks.training.heads.rows import Array, Chunk, StandardRows

SHRINKAGE = 0.3  # of the covariance towards the identity; `benchmarks.health` has what it finds
ROWS_AT_ONCE = 2048  # whose squares are computed at once
FEATURES_AT_ONCE = 128  # whose covariances with the features before them are computed at once
LEAST_COUNT = 0.5  # of a class, that its prior counts where no sample of it is left
LEAST_VARIANCE = 0.01  # of a feature within classes on average, far above the rounding of float32


@dataclass
class Moments:
    """The sums that samples add: their number (num_classes,) and vectors (num_classes, dim) by class, and squares."""

    counts: Array
    sums: Array
    squares: NDArray[np.float32]  # (dim, dim); of many dimensions it is large, so that sums are made in place

    def __iadd__(self, other: "Moments") -> Self:
        for own, more in self._pairs(other):
            own += more
        return self

    def __isub__(self, other: "Moments") -> Self:
        for own, less in self._pairs(other):
            own -= less
        return self

    def copy(self) -> "Moments":
        return Moments(self.counts.copy(), self.sums.copy(), self.squares.copy())

    def _pairs(self, other: "Moments") -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        return zip(vars(self).values(), vars(other).values(), strict=True)


class Discriminant:
    """The judgement of each of n samples by a discriminant that learned from the samples of other folds.

    Args:
        labels: (n,) in 0..num_classes-1, or below 0 for a sample that is only judged; n is at least 1.
        folds: (n,) from 0 on.
    """

    def __init__(
        self, rows: StandardRows, labels: NDArray[np.int64], folds: NDArray[np.int64], *, num_classes: int
    ) -> None:
        self.rows, self.labels, self.folds, self.num_classes = rows, labels, folds, num_classes
        self._known: tuple[NDArray[np.bool_], list[Moments]] | None = None

    def judged(self, learns: NDArray[np.bool_] | None = None) -> Array:
        """Return the calibrated log-probabilities (n, num_classes).

        Args:
            learns: (n,) the samples that are learned from; None is all with a label. A later call only counts the
                samples that it adds to those of the call before, or leaves out.
        """
        is_learned = self.labels >= 0 if learns is None else learns & (self.labels >= 0)
        rows = self.rows
        with threadpool_limits(1):  # each core works on other chunks, so that no sum depends on the number of cores
            parts = self._moments(is_learned)
            whole = reduce(iadd, parts[1:], parts[0].copy())
            layers = [_layer(whole, without=part) for part in parts]

            def logits(chunk: Chunk) -> Array:
                fold_of = self.folds[rows.slices[chunk.number]]
                answers = np.empty((len(fold_of), self.num_classes))
                for fold, (weight, bias) in enumerate(layers):
                    answers[fold_of == fold] = chunk.vectors[fold_of == fold] @ weight.T.astype(np.float32) + bias
                return answers

            outputs = np.concatenate(list(rows.map(logits)))
        temperature = fit_temperature(outputs[is_learned], self.labels[is_learned])
        return np.asarray(log_probabilities(outputs / temperature), dtype=np.float64)

    def _moments(self, is_learned: NDArray[np.bool_]) -> list[Moments]:
        """Return the moments of the samples of each fold that are learned from."""
        of_folds = [self.folds == fold for fold in range(int(self.folds.max()) + 1)]
        if self._known is None:
            parts = list(spread([is_learned & is_in_fold for is_in_fold in of_folds], self._counted))
        else:
            before, parts = self._known
            for part, is_in_fold in zip(parts, of_folds, strict=True):
                if (more := is_learned & ~before & is_in_fold).any():
                    part += self._counted(more)
                if (less := before & ~is_learned & is_in_fold).any():
                    part -= self._counted(less)
        self._known = is_learned, parts
        return parts

    def _counted(self, chosen: NDArray[np.bool_]) -> Moments:
        """Return the moments of the chosen samples (n,)."""
        return reduce(iadd, self._parts(chosen))

    def _parts(self, chosen: NDArray[np.bool_]) -> Iterator[Moments]:
        """Yield the moments of the chosen samples (n,), ROWS_AT_ONCE or a few more at a time."""
        vectors: list[NDArray[np.float32]] = []
        labels: list[NDArray[np.int64]] = []
        for number, rows in enumerate(self.rows.slices):
            vectors.append(self.rows.chunk(number).vectors[chosen[rows]])
            labels.append(self.labels[rows][chosen[rows]])
            # squares of many dimensions cost more to add up than to compute
            if sum(map(len, labels)) >= ROWS_AT_ONCE or number == len(self.rows.slices) - 1:
                yield _moments(np.concatenate(vectors), np.concatenate(labels), self.num_classes)
                vectors, labels = [], []


def _moments(vectors: NDArray[np.float32], labels: NDArray[np.int64], num_classes: int) -> Moments:
    sums = np.zeros((num_classes, vectors.shape[1]))
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    if len(present):
        sums[present] = np.add.reduceat(vectors[order].astype(np.float64), starts, axis=0)
    return Moments(np.bincount(labels, minlength=num_classes).astype(float), sums, vectors.T @ vectors)


def _layer(whole: Moments, *, without: Moments) -> tuple[Array, Array]:
    """Return weight (num_classes, dim) and bias (num_classes,) of the discriminant of a whole without a part of it."""
    counts, sums = whole.counts - without.counts, whole.sums - without.sums
    num, dim = counts.sum(), sums.shape[1]
    means = sums / np.maximum(counts, 1)[:, None]
    # the half on one side of the diagonal is all that is read; some rows at a time stay in the processor's cache
    shrunk, variances = np.empty((dim, dim), np.float32), np.empty(dim, np.float32)
    for start in range(0, dim, FEATURES_AT_ONCE):
        rows, half = slice(start, start + FEATURES_AT_ONCE), slice(start + FEATURES_AT_ONCE)
        covariance = whole.squares[rows, half] - without.squares[rows, half]
        covariance -= sums.T[rows] @ means[:, half]
        covariance /= max(num, 1)  # within classes
        variances[rows] = covariance.diagonal(start)
        covariance *= 1 - SHRINKAGE
        shrunk[rows, half] = covariance
    shrunk.flat[:: dim + 1] += SHRINKAGE * max(variances.sum() / dim, LEAST_VARIANCE)
    factor = cho_factor(shrunk.T, overwrite_a=True, check_finite=False)  # in LAPACK's order, which it need not copy
    weight = cho_solve(factor, means.T.astype(np.float32), check_finite=False).T.astype(np.float64)
    prior = np.log(np.maximum(counts, LEAST_COUNT) / max(num, 1))
    return weight, prior - (means * weight).sum(axis=1) / 2
