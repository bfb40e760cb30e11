"""Measure how a batch differs from the samples before it: a classifier's area under the curve, and its p-value.

A linear classifier separates the two by principal components and their squares ("Revisiting classifier two-sample
tests", Lopez-Paz and Oquab 2017; "Failing loudly", Rabanser et al. 2019). Each half of the samples is judged by a
classifier of the other half. It is fitted by least squares, so that hundreds of permutations of the sides cost one
product of matrices: the p-value is that of the permutation test (Phipson and Smyth 2010), which includes the fitting.

The effect size is 2 x AUC - 1, Cliff's delta of the classifier's scores: by how much more often a sample of the batch
has the higher score of a pair than the lower one. It does not grow with the number of samples, as a test's statistic
does.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks.data.health.components import Components

Array = NDArray[np.float64]

RIDGE = 0.05  # of the number of samples: features have variance 1
MOST_SAMPLES = 500  # of a side: a classifier learns more from more, and the effect would grow with them
LEAST_SAMPLES = 20  # of a side
NUM_PERMUTATIONS = 199
# Cliff's delta in words (Romano et al. 2006), the least value of each
WORDS = ((0.474, "large"), (0.33, "medium"), (0.147, "small"), (-1.0, "negligible"))


@dataclass(frozen=True, kw_only=True)
class Drift:
    """The area under the ROC curve, the p-value, and the samples of both sides that were compared."""

    auc: float
    p_value: float
    num_before: int
    num_batch: int

    @property
    def effect(self) -> float:
        """Return the effect size, 0 to 1."""
        return max(2 * self.auc - 1, 0.0)

    @property
    def in_words(self) -> str:
        return next(word for least, word in WORDS if self.effect >= least)


def drift(
    before: NDArray[np.floating],
    batch: NDArray[np.floating],
    *,
    seed: int,
    num_permutations: int = NUM_PERMUTATIONS,
) -> Drift | None:
    """Return how far the vectors of a batch (m, dim) are from those before it (n, dim).

    Returns:
        None where a side has fewer than LEAST_SAMPLES.
    """
    generator = np.random.default_rng(seed)
    n, m = len(before), len(batch)
    if min(n, m) < LEAST_SAMPLES:
        return None
    is_batch = np.repeat([0.0, 1.0], [n, m])
    # column 0 marks the samples of the batch, and the others are permutations of it
    sides_of = np.stack([is_batch, *(generator.permutation(is_batch) for _ in range(num_permutations))], axis=1)
    folds = generator.permutation(n + m) % 2
    with threadpool_limits(1):
        features = _features(np.concatenate([before, batch]))
        areas = np.mean([_areas(features, sides_of, judged=folds == fold) for fold in (0, 1)], axis=0)
    p_value = (1 + int((areas[1:] >= areas[0]).sum())) / (1 + num_permutations)
    return Drift(auc=float(areas[0]), p_value=p_value, num_before=n, num_batch=m)


def drawn(rows: NDArray[np.intp], *, seed: int, most: int = MOST_SAMPLES) -> NDArray[np.intp]:
    """Return at most so many of the rows (n,), at random."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:most])


def _features(vectors: NDArray[np.floating]) -> Array:
    """Return principal components and their squares, (n, 2 x num_components), of variance 1 each.

    They do not depend on which samples are of the batch, so that permutations may share them.
    """
    components = _standardised(Components.of(vectors).project(vectors))
    return np.concatenate([components, _standardised(components**2)], axis=1)


def _standardised(features: Array) -> Array:
    centred = features - features.mean(axis=0)
    scale = np.sqrt((centred**2).mean(axis=0))
    standardised: Array = centred / np.where(scale > 1e-9 * scale.max(initial=0.0), scale, 1)
    return standardised


def _areas(features: Array, sides: Array, *, judged: NDArray[np.bool_]) -> Array:
    """Return the area (p,) for each column of `sides` (n, p), on the half that is judged."""
    learned, known = features[~judged], sides[~judged]
    gram = learned.T @ learned + RIDGE * len(learned) * np.eye(learned.shape[1])
    weights = np.linalg.solve(gram, learned.T @ (known - known.mean(axis=0)))  # (features, p)
    ranks = pd.DataFrame(features[judged] @ weights).rank().to_numpy()
    of_batch = sides[judged]
    m = of_batch.sum(axis=0)
    n = len(of_batch) - m
    wins = (ranks * of_batch).sum(axis=0) - m * (m + 1) / 2
    areas: Array = np.where((n > 0) & (m > 0), wins / np.maximum(n * m, 1), 0.5)
    return areas
