"""Decide about every scanned sample: which split and labels it has in the manifest, or why it is set aside."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tasks.data.admission.classes import classes_in_order
from tasks.data.admission.options import AdmissionOptions
from tasks.data.admission.quarantine import WAITING, duplicates, labels_not_let_in, ledger_of, unlabelled_copies
from tasks.data.admission.splits import batches_without_val, split_of_any_copy, with_val
from tasks.data.manifest.manifest import POOL


@dataclass(frozen=True, kw_only=True)
class Admission:
    """The decisions: every sample is a row of the manifest or of the ledger. The manifest has the pool, too.

    `classes` are the classes in use, by target, in the order of the logits. `probation` counts the samples of each
    class in probation, by target.
    """

    manifest: pd.DataFrame
    ledger: pd.DataFrame
    classes: dict[str, list[str]]
    probation: dict[str, dict[str, int]]


def admit(
    samples: pd.DataFrame,
    options: AdmissionOptions,
    *,
    targets: Sequence[str],
    registered: Mapping[str, Sequence[str]],
    split: Callable[[str], str],
) -> Admission:
    """Admit samples to the manifest, and list the others in the ledger.

    A sample without a label for any target is in the pool, whatever split the data name. A copy that has a label, in
    any batch, stands for it.

    Args:
        samples: columns batch, path, sample_id, group, split and the targets. Batches are in the order they landed.
        targets: the columns to learn.
        registered: by target, the classes of the model in use, which keep their places.
        split: returns the split of a group, or of a sample_id.
    """
    samples = samples.sort_values(["batch", "path"], key=_landed, kind="stable", ignore_index=True)
    min_samples = options.min_samples_per_class
    ledgers: list[pd.DataFrame] = []

    def set_aside(reasons: pd.DataFrame) -> None:
        nonlocal samples
        ledgers.append(ledger_of(samples, reasons))
        samples = samples.drop(reasons.index) if len(reasons) else samples

    without_val = batches_without_val(samples, targets=targets)
    if without_val:
        samples["split"] = with_val(samples, without_val, split=split)
    samples["split"] = split_of_any_copy(samples)
    set_aside(unlabelled_copies(samples, targets=targets))
    pool = samples[samples[list(targets)].isna().all(axis=1)].assign(split=POOL)
    samples = samples.drop(pool.index)
    set_aside(duplicates(samples, targets=targets))
    allowed = {target: options.classes.get(target) or list(samples[target].dropna().unique()) for target in targets}
    set_aside(labels_not_let_in(samples, allowed=allowed, reason="unknown_class", details={}))
    _drop_labels(samples, allowed)
    classes, probation = {}, {}
    for target in targets:
        classes[target], probation[target] = classes_in_order(
            samples, target=target, registered=registered.get(target, []), min_samples=min_samples
        )
    details = {
        (target, name): f"class {name!r} of {target} has {count} of {min_samples} samples: it waits for more"
        for target, counts in probation.items()
        for name, count in counts.items()
    }
    set_aside(labels_not_let_in(samples, allowed=classes, reason=WAITING, details=details))
    _drop_labels(samples, classes)
    keys = samples["group"].fillna(samples["sample_id"])
    samples["split"] = samples["split"].fillna(keys.map({key: split(key) for key in keys.unique()}))
    ledger = pd.concat(ledgers, ignore_index=True)
    in_use = {target: names for target, names in classes.items() if names}
    manifest = pd.concat([samples, pool]).sort_index() if len(pool) else samples
    return Admission(manifest=manifest, ledger=ledger, classes=in_use, probation=probation)


def _landed(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return the sort key of a column: batches sort in the order in which they landed, other columns by value."""
    if column.name != "batch":
        return column
    return pd.Series(pd.factorize(column)[0], index=column.index)


def _drop_labels(samples: pd.DataFrame, allowed: Mapping[str, Sequence[str]]) -> None:
    """Remove the labels that are not allowed; the samples have other labels."""
    for target, names in allowed.items():
        samples[target] = samples[target].where(samples[target].isin(names))
