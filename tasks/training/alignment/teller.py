"""The teller of domains: the linear layer that says whether a sample is of the sources or of an adapted domain."""

from collections.abc import Mapping

import numpy as np
from threadpoolctl import threadpool_limits

from tasks.targets.head import Layer
from tasks.training.alignment.domains import Vectors
from tasks.training.heads.logistic import Solver
from tasks.training.heads.rows import TrainingRows

L2 = 0.01
MOST_ITERATIONS = 200


def fit_teller(sources: Vectors, domains: Mapping[str, Vectors]) -> Layer:
    """Return the layer for vectors as they are, of 1 + num_domains outputs: the sources, then the domains in order.

    It is multinomial logistic regression, in which the sources and each domain count the same.

    Args:
        sources: (n, dim) of all sources together.
        domains: (m, dim) by domain.
    """
    parts = [sources, *domains.values()]
    vectors = np.concatenate(parts).astype(np.float32)
    sides = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    with threadpool_limits(1):  # so that no bit depends on the number of cores
        solver = Solver(
            TrainingRows(vectors, sides, ["the sources", *domains]), "balanced", max_iterations=MOST_ITERATIONS
        )
        weight, bias = solver.fold(solver.solve(L2))
    return weight.astype(np.float32), bias.astype(np.float32)
