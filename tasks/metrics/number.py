"""The measures of numbers: mean absolute error, R² and the coverage of intervals."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.metrics.answered import Answered
from tasks.metrics.bootstrap import Measures, ratio
from tasks.targets.number import Number
from tasks.targets.target import Target, Truths

NUM_PARTS = 4  # slices of the truths, of about equal numbers of samples


def measures(answered: Answered, truths: Truths, *, num_bins: int) -> Measures:
    """Return the function that measures these answers (n, 3) of a number; truths (n,).

    `r2` is the share of the truths' variance that the answers explain, NaN where all truths are equal. `coverage` is
    the share of truths within their interval, and `width` is that of an interval, in the target's unit.
    """
    values, low, high = answered.answers.T
    centred = truths - truths.mean()  # for the last digits of the variance
    columns = {
        "mean_absolute_error": np.abs(values - truths),
        "squared": (values - truths) ** 2,
        "coverage": (low <= truths) & (truths <= high),
        "width": high - low,
        "within_tolerance": answered.is_right(truths),
        "truth": centred,
        "squared_truth": centred**2,
    }
    matrix = np.stack([column.astype(float) for column in columns.values()], axis=1)

    def measured(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        means = dict(zip(columns, ratio(weights @ matrix, weights.sum(axis=1, keepdims=True)).T, strict=True))
        squared, variance = means.pop("squared"), means.pop("squared_truth") - means.pop("truth") ** 2
        return means | {"root_mean_squared_error": np.sqrt(squared), "r2": 1 - ratio(squared, variance)}

    return measured


def details(answered: Answered, truths: Truths) -> dict[str, Any]:
    """Return the level that the intervals are made for, and the tolerance that counts as right."""
    target = answered.target
    assert isinstance(target, Number)
    return {"level": target.level, "tolerance": target.allowed_error}


def parts(truths: Truths, target: Target) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the quarters of the truths (n,) that have samples, named by their range."""
    assert isinstance(target, Number)
    ends = np.unique(np.quantile(truths, np.linspace(0, 1, NUM_PARTS + 1)))
    digits = next(digits for digits in range(6, 18) if len({f"{end:.{digits}g}" for end in ends}) == len(ends))
    part = np.searchsorted(ends[1:-1], truths, side="right")
    for number in range(max(len(ends) - 1, 1)):
        if not (part == number).any():  # of two truths no quarter lies between
            continue
        low, high = ends[number], ends[min(number + 1, len(ends) - 1)]
        yield f"{low:.{digits}g} to {high:.{digits}g} {target.measure}".strip(), part == number
