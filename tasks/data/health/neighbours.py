"""Find the nearest training samples of each sample: their distances show outliers, and their labels wrong labels.

The distances are 1 - the cosines of directions, see `tasks.data.health.unlike`. A part of train is looked through,
without the sample itself.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks.data.health.unlike import NEIGHBOURS, directions
from tasks.data.vectors.embeddings import Embeddings
from tasks.machine.cores import spread

MOST_REFERENCES = 4000  # samples of train that are looked through
NUM_FOUND = 10
ROWS_AT_ONCE = 2048
FAR_OUT = 3.0  # quartile ranges above the third quartile (Tukey 1977)
LEAST_SAMPLES = 2 * NUM_FOUND  # of train


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The rows (n, NUM_FOUND) of the nearest training samples of n samples, and their cosines, the nearest first."""

    rows: NDArray[np.intp]
    cosines: NDArray[np.float32]

    @property
    def distances(self) -> NDArray[np.float64]:
        """Return how far away each sample is from train: (n,), 0 to 2."""
        return 1.0 - self.cosines[:, NEIGHBOURS - 1].astype(np.float64)


def find_neighbours(vectors: Embeddings, train: NDArray[np.intp], *, seed: int) -> Neighbours | None:
    """Return the neighbours of n samples; None where train, of which these are the rows, has too few samples."""
    if len(train) < LEAST_SAMPLES:
        return None
    drawn = np.sort(np.random.default_rng(seed).permutation(train)[:MOST_REFERENCES])
    references = directions(vectors[drawn])
    starts = range(0, len(vectors), ROWS_AT_ONCE)
    with threadpool_limits(1):  # each core works on other rows
        parts = list(spread(starts, partial(_nearest, vectors, drawn, references)))
    rows, cosines = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Neighbours(rows=rows, cosines=cosines)


def _nearest(
    vectors: Embeddings, drawn: NDArray[np.intp], references: NDArray[np.float32], start: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    rows = np.arange(start, min(start + ROWS_AT_ONCE, len(vectors)))
    cosines = directions(vectors[rows]) @ references.T
    places = np.minimum(np.searchsorted(drawn, rows), len(drawn) - 1)
    is_own = drawn[places] == rows
    cosines[np.flatnonzero(is_own), places[is_own]] = -2  # a sample is no neighbour of its own
    nearest = np.argpartition(cosines, -NUM_FOUND, axis=1)[:, -NUM_FOUND:]
    found = np.take_along_axis(cosines, nearest, axis=1)
    order = np.argsort(-found, axis=1, kind="stable")
    return drawn[np.take_along_axis(nearest, order, axis=1)], np.take_along_axis(found, order, axis=1)


def far_out(distances: NDArray[np.float64]) -> float:
    """Return the distance beyond which a sample is an outlier, by those of train."""
    lower, upper = np.quantile(distances, [0.25, 0.75])
    return float(upper + FAR_OUT * (upper - lower))
