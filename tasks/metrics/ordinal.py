"""The measures of ordered steps: accuracy, distance in steps and quadratic kappa."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.metrics.accuracy import SMALLEST
from tasks.metrics.answered import Answered
from tasks.metrics.bootstrap import Measures, ratio
from tasks.targets.ordinal import Ordinal
from tasks.targets.target import Target, Truths


def measures(answered: Answered, truths: Truths, *, num_bins: int) -> Measures:
    """Return the function that measures these answers (n, num_steps); truths (n,).

    `quadratic_kappa` is 1 - the mean squared distance of answer and truth, divided by that of answers and truths drawn
    apart (Cohen 1968). It is NaN where all are one step. `log_loss` is in nats.
    """
    target = answered.target
    assert isinstance(target, Ordinal)
    steps = target.step_of(answered.answers)
    of_truth = answered.answers[np.arange(len(truths)), truths]
    columns = {
        "accuracy": steps == truths,
        "mean_distance": np.abs(steps - truths),
        "log_loss": -np.log(np.maximum(of_truth, SMALLEST)),
        "squared": (steps - truths) ** 2,
        "step": steps,
        "squared_step": steps**2,
        "truth": truths,
        "squared_truth": truths**2,
    }
    matrix = np.stack([column.astype(float) for column in columns.values()], axis=1)

    def measured(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        means = dict(zip(columns, ratio(weights @ matrix, weights.sum(axis=1, keepdims=True)).T, strict=True))
        squared = means.pop("squared")
        apart = means.pop("squared_step") + means.pop("squared_truth") - 2 * means.pop("step") * means.pop("truth")
        return means | {"quadratic_kappa": 1 - ratio(squared, apart)}

    return measured


def details(answered: Answered, truths: Truths) -> dict[str, Any]:
    """Return the share of right answers by step, of the steps that have samples."""
    is_right = answered.is_right(truths)
    return {"recall": {name: float(is_right[of].mean()) for name, of in parts(truths, answered.target)}}


def parts(truths: Truths, target: Target) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the steps that have samples, from the lowest to the highest, and which samples (n,) have them."""
    for step, name in enumerate(target.names):
        if (truths == step).any():
            yield name, truths == step
