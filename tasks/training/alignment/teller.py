"""The teller of domains: the linear layer that recognises whether a sample is of the sources or an adapted domain."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks.targets.head import Layer
from tasks.training.alignment.domains import Array, Vectors
from tasks.training.heads.logistic import Solver
from tasks.training.heads.rows import TrainingRows

L2 = 0.01
MOST_ITERATIONS = 200
NUM_FOLDS = 3


def fit_teller(sources: Vectors, domains: Mapping[str, Vectors]) -> Layer:
    """Return the layer for vectors as they are, of 1 + num_domains outputs: the sources, then the domains in order.

    It is multinomial logistic regression, in which the sources and each domain count the same. A second one, on the
    logits of a cross-fit, calibrates its probabilities for samples that it has not seen: the few samples of a domain
    are easily learned by heart, and others of the same domain then look like the sources.

    Args:
        sources: (n, dim) of all sources together.
        domains: (m, dim) by domain.
    """
    parts, names = [sources, *domains.values()], ["the sources", *domains]
    vectors = np.concatenate(parts).astype(np.float32)
    sides = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    num_folds = min(NUM_FOLDS, *map(len, parts))
    folds = np.concatenate([np.arange(len(part)) % num_folds for part in parts])
    logits = np.empty((len(vectors), len(parts)), np.float32)
    with threadpool_limits(1):  # so that no bit depends on the number of cores
        weight, bias = solved(vectors, sides, names)
        if num_folds < 2:
            return weight.astype(np.float32), bias.astype(np.float32)
        for fold in range(num_folds):
            kept = folds != fold
            other_weight, other_bias = solved(vectors[kept], sides[kept], names)
            logits[~kept] = vectors[~kept] @ other_weight.T + other_bias
        scale, shift = solved(logits, sides, names)
        return (scale @ weight).astype(np.float32), (scale @ bias + shift).astype(np.float32)


def solved(vectors: Vectors, sides: NDArray[np.int64], names: Sequence[str]) -> tuple[Array, Array]:
    solver = Solver(TrainingRows(vectors, sides, list(names)), "balanced", max_iterations=MOST_ITERATIONS)
    return solver.fold(solver.solve(L2))
