"""The measures of every kind of target but `classes`, whose measures stand in measures.py."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.metrics import number, ordinal, several
from tasks.metrics.answered import Answered
from tasks.metrics.bootstrap import Measures, intervals_of, measure_once
from tasks.metrics.options import MeasureOptions
from tasks.targets.target import Target, Truths

Parts = Iterator[tuple[str, NDArray[np.bool_]]]


class MeasuresOf(Protocol):
    def __call__(self, answered: Answered, truths: Truths, *, num_bins: int) -> Measures: ...


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The measures of a kind.

    error: the name of the measure that is the mean of `Target.errors`.
    details: further facts in the report, such as the measures of each label.
    parts: the slices by the truth, with the samples (n,) of each.
    """

    error: str
    measures: MeasuresOf
    details: Callable[[Answered, Truths], dict[str, Any]]
    parts: Callable[[Truths, Target], Parts]


KINDS = {
    "several": Kind(error="hamming", measures=several.measures, details=several.details, parts=several.parts),
    "ordinal": Kind(error="mean_distance", measures=ordinal.measures, details=ordinal.details, parts=ordinal.parts),
    "number": Kind(error="mean_absolute_error", measures=number.measures, details=number.details, parts=number.parts),
}


def measure_errors(
    truths: Truths,
    answered: Answered,
    *,
    options: MeasureOptions,
    leaked: NDArray[np.bool_],
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Return the measures of a model: `error` in the target's unit, those of the kind, and their intervals.

    Raises ValueError if there are no samples.
    """
    if not len(truths):
        raise ValueError("there are no held-out samples: add data, or raise validate.heldout_fraction")
    kind = KINDS[answered.target.kind]
    measures = kind.measures(answered, truths, num_bins=options.calibration_bins)
    measured = measure_once(measures, n=len(truths))
    intervals = intervals_of(
        measures,
        measured,
        n=len(truths),
        num_outputs=answered.answers.shape[1],
        confidence=options.confidence,
        num_resamples=options.num_resamples,
        generator=np.random.default_rng(seed),
        groups=groups,
    )
    without_leaks = answered.errors(truths)[~leaked]
    return {
        **measured,
        "error": measured[kind.error],
        "error_without_leaks": float(without_leaks.mean()) if len(without_leaks) else None,
        "num_leaked": int(leaked.sum()),
        "intervals": intervals | {"error": intervals[kind.error]},
        **kind.details(answered, truths),
    }
