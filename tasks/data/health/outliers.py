"""Find the samples of a data set that lie far from all others: outliers among those that are trained on, and others.

The distances are those of `tasks.data.health.unlike`, from a part of train, without the sample itself.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks.data.health.unlike import Neighbourhood, nearness, units
from tasks.data.vectors.embeddings import Embeddings
from tasks.machine.cores import spread

MOST_REFERENCES = 4000
ROWS_AT_ONCE = 2048
FAR_OUT = 3.0  # quartile ranges above the third quartile (Tukey 1977)
LEAST_SAMPLES = 20  # of train


def distances_from_train(vectors: Embeddings, train: NDArray[np.intp], *, seed: int) -> NDArray[np.float64] | None:
    """Return how far away each of n samples is: (n,), 0 to 2; None where train has too few samples.

    `train` has the rows of the samples that are trained on.
    """
    if len(train) < LEAST_SAMPLES:
        return None
    drawn = np.sort(np.random.default_rng(seed).permutation(train)[:MOST_REFERENCES])
    neighbourhood = Neighbourhood.of(vectors[drawn], most=len(drawn))
    references = units(vectors[drawn], neighbourhood.mean)
    starts = range(0, len(vectors), ROWS_AT_ONCE)
    work = partial(_distances, vectors, drawn, references, neighbourhood.mean)
    with threadpool_limits(1):  # each core works on other rows
        return np.concatenate(list(spread(starts, work)))


def _distances(
    vectors: Embeddings, drawn: NDArray[np.intp], references: NDArray[np.float32], mean: NDArray[np.float32], start: int
) -> NDArray[np.float64]:
    rows = np.arange(start, min(start + ROWS_AT_ONCE, len(vectors)))
    cosines = units(vectors[rows], mean) @ references.T
    places = np.minimum(np.searchsorted(drawn, rows), len(drawn) - 1)
    is_own = drawn[places] == rows
    cosines[np.flatnonzero(is_own), places[is_own]] = -1  # a sample is no neighbour of its own
    return 1.0 - nearness(cosines).astype(np.float64)


def far_out(distances: NDArray[np.float64], train: NDArray[np.intp]) -> float:
    """Return the distance beyond which a sample is an outlier, by those of train."""
    lower, upper = np.quantile(distances[train], [0.25, 0.75])
    return float(upper + FAR_OUT * (upper - lower))
