"""All measures of a model on held-out samples, and of the candidate against the baseline."""

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.metrics.accuracy import measure_accuracy
from tasks.metrics.bootstrap import intervals
from tasks.metrics.calibration import reliability, squared_errors
from tasks.metrics.options import MeasureOptions
from tasks.metrics.significance import compare
from tasks.targets.classes import is_right, likeliest


def measure(
    labels: NDArray[np.int64],
    by_model: dict[str, NDArray[np.float64]],
    names: list[str],
    options: MeasureOptions,
    *,
    leaked: NDArray[np.bool_],
    is_shared: NDArray[np.bool_],
    seed: int,
) -> dict[str, Any]:
    """The numbers of each model and, where there is a baseline, the flips from it to the candidate on samples that it did not learn
    from, of classes that it knows: `is_shared` (n,). Where these are but a part, `shared` has the numbers of both on them, since
    on the others the two do not compare. `leaked` (n,) says which samples have a near-duplicate in train or val."""
    ask = partial(measure_model, names=names, options=options, seed=seed)
    measured: dict[str, Any] = {name: ask(labels, found, leaked=leaked) for name, found in by_model.items()}
    if "baseline" not in by_model:
        return measured
    both = {name: by_model[name][is_shared] for name in ("candidate", "baseline")}
    hits = {name: is_right(found, labels[is_shared]) for name, found in both.items()}
    measured["flips"] = asdict(compare(candidate=hits["candidate"], baseline=hits["baseline"]))
    if is_shared.any() and not is_shared.all():
        measured["shared"] = {
            name: ask(labels[is_shared], found, leaked=leaked[is_shared]) for name, found in both.items()
        }
    return measured


def measure_model(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    *,
    names: list[str],
    options: MeasureOptions,
    leaked: NDArray[np.bool_],
    seed: int,
) -> dict[str, Any]:
    """The numbers of a model that gives the samples these probabilities: (n, num_classes)."""
    found = measure_accuracy(labels=labels, probabilities=probabilities)
    _, error = reliability(labels=labels, probabilities=probabilities, num_bins=options.calibration_bins)
    return {
        "accuracy": found.accuracy,
        "accuracy_without_leaks": accuracy_of(labels[~leaked], probabilities[~leaked]),
        "num_leaked": int(leaked.sum()),
        "macro_f1": found.macro_f1,
        "log_loss": found.log_loss,
        "calibration_error": error,
        "brier": float(squared_errors(labels=labels, probabilities=probabilities).mean()),
        "intervals": intervals(
            labels=labels,
            probabilities=probabilities,
            num_bins=options.calibration_bins,
            confidence=options.confidence,
            num_resamples=options.num_resamples,
            generator=np.random.default_rng(seed),
        ),
        "recall": {each: float(recall) for each, recall in zip(names, found.recall, strict=True) if recall == recall},
    }


def is_known(labels: NDArray[np.int64], names: list[str], *, known: list[str]) -> NDArray[np.bool_]:
    """Of labels (n,), places in `names`: whether their classes are among the known ones."""
    return np.isin(labels, [place for place, name in enumerate(names) if name in known])


def share_unchanged(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Of the samples (n, num_classes), those whose likeliest class stays the same."""
    return float((likeliest(before) == likeliest(after)).mean())


def accuracy_of(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float | None:
    """The share of samples whose label is the likeliest; None where there are none."""
    return float(is_right(probabilities, labels).mean()) if len(labels) else None
