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
    """Return the measures of each model and, where there is a baseline, the flips from it to the candidate.

    Flips are counted on the shared samples: the baseline did not learn from them and knows their classes. Where only a
    part of the samples is shared, `shared` has the measures of both models on that part, because they cannot be
    compared on the others.

    Args:
        leaked: (n,), whether a sample has a near-duplicate in train or val.
        is_shared: (n,).
    """
    ask = partial(measure_model, names=names, options=options, seed=seed)
    measured: dict[str, Any] = {
        name: ask(labels, probabilities, leaked=leaked) for name, probabilities in by_model.items()
    }
    if "baseline" not in by_model:
        return measured
    both = {name: by_model[name][is_shared] for name in ("candidate", "baseline")}
    hits = {name: is_right(probabilities, labels[is_shared]) for name, probabilities in both.items()}
    measured["flips"] = asdict(compare(candidate=hits["candidate"], baseline=hits["baseline"]))
    if is_shared.any() and not is_shared.all():
        measured["shared"] = {
            name: ask(labels[is_shared], probabilities, leaked=leaked[is_shared])
            for name, probabilities in both.items()
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
    """Return the measures of a model that gives the samples these probabilities, (n, num_classes)."""
    accuracy = measure_accuracy(labels=labels, probabilities=probabilities)
    _, error = reliability(labels=labels, probabilities=probabilities, num_bins=options.calibration_bins)
    return {
        "accuracy": accuracy.accuracy,
        "accuracy_without_leaks": accuracy_of(labels[~leaked], probabilities[~leaked]),
        "num_leaked": int(leaked.sum()),
        "macro_f1": accuracy.macro_f1,
        "log_loss": accuracy.log_loss,
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
        "recall": {
            name: float(recall) for name, recall in zip(names, accuracy.recall, strict=True) if recall == recall
        },
    }


def is_known(labels: NDArray[np.int64], names: list[str], *, known: list[str]) -> NDArray[np.bool_]:
    """Return (n,): whether the classes of labels (n,), places in `names`, are among the known ones."""
    return np.isin(labels, [place for place, name in enumerate(names) if name in known])


def share_unchanged(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Return the share of samples, (n, num_classes), whose likeliest class stays the same."""
    return float((likeliest(before) == likeliest(after)).mean())


def accuracy_of(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float | None:
    """Return the share of samples whose label is the likeliest; None where there are none."""
    return float(is_right(probabilities, labels).mean()) if len(labels) else None
