"""Compute all measures of a model on held-out samples, and of the candidate against the baseline."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.metrics import classes
from tasks.metrics.accuracy import design_effect, measure_accuracy
from tasks.metrics.answered import Answered
from tasks.metrics.bootstrap import intervals_of
from tasks.metrics.calibration import reliability, squared_errors
from tasks.metrics.kinds import measure_errors
from tasks.metrics.options import MeasureOptions
from tasks.metrics.significance import compare, compare_errors, part_of, recorded
from tasks.targets.classes import Classes, is_right
from tasks.targets.target import Target, Truths


def measure(
    truths: Truths,
    by_model: Mapping[str, Answered],
    options: MeasureOptions,
    *,
    leaked: NDArray[np.bool_],
    is_shared: NDArray[np.bool_],
    is_adapted: NDArray[np.bool_],
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Return the measures of each model and, where there is a baseline, the flips from it to the candidate.

    Flips are counted on the shared samples: the baseline did not learn from them and knows their classes. Where only
    some samples are shared, `shared` has the measures of both models on these, because the models cannot be compared on
    the others.

    A target of another kind than `classes` has its `kind` and `unit`, too, and the `change` of the errors.

    Args:
        truths: those of n samples, all there.
        leaked: (n,), whether a sample has a near-duplicate in train or val.
        is_shared: (n,).
        is_adapted: (n,), whether the candidate answers by the head of a domain that it is adapted to. Such answers are
            not calibrated: no model's calibration error counts them.
        groups: (n,), the number of each sample's group, from 0; None where each sample is a group of its own.
    """
    ask = partial(measure_with_adapted, options=options, seed=seed)
    measured: dict[str, Any] = {
        name: ask(truths, answered, leaked=leaked, is_adapted=is_adapted, groups=groups)
        for name, answered in by_model.items()
    }
    target = by_model["candidate"].target
    if not isinstance(target, Classes):
        measured |= {"kind": target.kind, "unit": target.unit}
    if "baseline" not in by_model:
        return measured
    both = {name: by_model[name].of(is_shared) for name in ("candidate", "baseline")}
    known, shared_groups = truths[is_shared], part_of(groups, is_shared)
    is_right_of = {name: answered.is_right(known) for name, answered in both.items()}
    measured["flips"] = recorded(compare(**is_right_of, groups=shared_groups))
    if not isinstance(target, Classes):
        errors = {name: answered.errors(known) for name, answered in both.items()}
        measured["change"] = recorded(compare_errors(**errors, groups=shared_groups))
    if is_shared.any() and not is_shared.all():
        measured["shared"] = {
            name: ask(known, answered, leaked=leaked[is_shared], is_adapted=is_adapted[is_shared], groups=shared_groups)
            for name, answered in both.items()
        }
    return measured


def measure_with_adapted(
    truths: Truths,
    answered: Answered,
    *,
    options: MeasureOptions,
    leaked: NDArray[np.bool_],
    is_adapted: NDArray[np.bool_],
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Return the measures of a model where some samples are answered by heads of domains.

    The calibration error is that of the others, whose number is `num_calibrated`; there is none without others.
    """
    ask = partial(measure_model, options=options, seed=seed)
    measured = ask(truths, answered, leaked=leaked, groups=groups)
    if not is_adapted.any():
        return measured
    name, others = "calibration_error", ~is_adapted
    del measured[name], measured["intervals"][name]
    if others.any():
        part = ask(truths[others], answered.of(others), leaked=leaked[others], groups=part_of(groups, others))
        measured[name], measured["intervals"][name] = part[name], part["intervals"][name]
    return measured | {"num_calibrated": int(others.sum())}


def measure_model(
    truths: Truths,
    answered: Answered,
    *,
    options: MeasureOptions,
    leaked: NDArray[np.bool_],
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Return the measures of a model that gives the samples these answers."""
    if not isinstance(answered.target, Classes):
        return measure_errors(truths, answered, options=options, leaked=leaked, seed=seed, groups=groups)
    labels, probabilities, names = truths, answered.answers, answered.target.names
    accuracy = measure_accuracy(labels=labels, probabilities=probabilities)
    _, error = reliability(labels=labels, probabilities=probabilities, num_bins=options.calibration_bins)
    measured: dict[str, float] = {
        "accuracy": accuracy.accuracy,
        "macro_f1": accuracy.macro_f1,
        "log_loss": accuracy.log_loss,
        "calibration_error": error,
        "brier": float(squared_errors(labels=labels, probabilities=probabilities).mean()),
    }
    intervals = intervals_of(
        classes.measures(labels, probabilities, num_bins=options.calibration_bins),
        measured,
        n=len(labels),
        num_outputs=1,
        confidence=options.confidence,
        num_resamples=options.num_resamples,
        generator=np.random.default_rng(seed),
        groups=groups,
        design_effect=design_effect(is_right(probabilities, labels), groups),
    )
    return {
        **measured,
        "accuracy_without_leaks": accuracy_of(labels[~leaked], probabilities[~leaked]),
        "num_leaked": int(leaked.sum()),
        "intervals": intervals,
        "recall": {
            name: float(recall) for name, recall in zip(names, accuracy.recall, strict=True) if recall == recall
        },
    }


def is_known(truths: Truths, target: Target, *, known: Target | None) -> NDArray[np.bool_]:
    """Return (n,): whether the model in use knows the truth of each sample; `known` is its target, None for none.

    The target is the candidate's. Both can be compared, so that numbers and steps are known.
    """
    if known is None:
        return np.zeros(len(truths), bool)
    if not target.names:
        return np.ones(len(truths), bool)
    new = np.array([name not in known.names for name in target.names])
    return np.asarray(~(truths[:, new] > 0.5).any(axis=1) if truths.ndim > 1 else ~new[truths])


def share_unchanged(before: Answered, after: Answered) -> float:
    """Return the share of samples whose answer stays: the old answer counts as the truth of the new one."""
    return float(after.is_right(before.target.encode(pd.Series(before.shown(), dtype=str))).mean())


def names_without_samples(measured: Mapping[str, Any], target: Target) -> list[str]:
    """Return the classes, labels or steps without a sample, from the measures of a model."""
    counted = measured.get("recall") or {
        name: of_label for name, of_label in measured.get("labels", {}).items() if of_label["num"]
    }
    return [name for name in target.names if name not in counted]


def accuracy_of(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float | None:
    """Return the share of samples whose label is the likeliest; None where there are none."""
    return float(is_right(probabilities, labels).mean()) if len(labels) else None
