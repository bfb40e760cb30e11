"""Decide about every scanned sample: which split and labels it has in the manifest, or why it is set aside."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from tasks.data.admission.classes import classes_in_order
from tasks.data.admission.labels import LABEL_COLUMNS, labels_set_aside, names_of, num_labels, without_labels
from tasks.data.admission.options import AdmissionOptions
from tasks.data.admission.quarantine import (
    UNKNOWN,
    WAITING,
    corrected_away,
    duplicates,
    labels_not_let_in,
    ledger_of,
    not_let_in,
    unlabelled_copies,
)
from tasks.data.admission.splits import batches_without_val, sides_of, split_of_any_copy, with_val
from tasks.data.manifest.manifest import POOL
from tasks.targets.classes import Classes
from tasks.targets.several import Several
from tasks.targets.target import Target

MOST_LABELS = 5_000  # different ones of a target of several


@dataclass(frozen=True, kw_only=True)
class Admission:
    """The decisions: every sample is a row of the manifest or of the ledger. The manifest has the pool, too.

    `targets` have the classes or labels in use, in the order of the logits; one that has no label at all is left out.
    `probation` counts the samples of each class in probation, by target. `labels` are set aside while their sample has
    others or waits in the pool. `labels_of_ledger` counts the labels of samples in the ledger.
    """

    manifest: pd.DataFrame
    ledger: pd.DataFrame
    targets: dict[str, Target]
    probation: dict[str, dict[str, int]]
    labels: pd.DataFrame
    labels_of_ledger: dict[str, int]


def admit(
    samples: pd.DataFrame,
    options: AdmissionOptions,
    *,
    targets: Mapping[str, Target],
    registered: Mapping[str, Sequence[str]],
    split: Callable[[str], str],
    taken_out: Mapping[str, tuple[str, str]] | None = None,
) -> Admission:
    """Admit samples to the manifest, and list the others in the ledger.

    A sample without a label for any target is in the pool, whatever split the data name. Where any batch has a copy of
    it with a label, that copy takes its place.

    Args:
        samples: columns batch, path, sample_id, group, split and the targets. Batches are in the order they landed.
            Its columns are freed as rows are dropped, unless another reference holds them.
        targets: the columns to learn, without their classes and labels.
        registered: by target, the classes or labels of the model in use, which keep their places.
        split: returns the split of a group, or of a sample_id.
        taken_out: the reason and the detail, by sample_id, of samples that people set aside.
    """
    samples = _in_order(samples)
    groups = samples["group"]  # a group may be a target, too
    min_samples = options.min_samples_per_class
    ledgers: list[pd.DataFrame] = []
    pools: list[pd.DataFrame] = []
    labels = [pd.DataFrame(columns=LABEL_COLUMNS, dtype="str")]
    gone = dict.fromkeys(targets, 0)

    def set_aside(reasons: pd.DataFrame) -> None:
        nonlocal samples
        ledgers.append(ledger_of(samples, reasons))
        for name, target in targets.items():
            gone[name] += num_labels(samples.loc[reasons.index, name], target)
        samples = _without(samples, reasons.index)

    def let_wait() -> None:
        nonlocal samples
        pools.append(samples[samples[list(targets)].isna().all(axis=1)].assign(split=POOL))
        samples = _without(samples, pools[-1].index)

    def let_in(allowed: Mapping[str, Sequence[str]], reason: str, details: Mapping[tuple[str, str], str]) -> None:
        for name, names in allowed.items():
            samples[name], out = without_labels(samples[name], targets[name], allowed=names)
            detail_of = {label: details.get((name, label), not_let_in(name, label)) for label in out.unique()}
            labels.append(labels_set_aside(samples, name, out, reason=reason, details=detail_of))

    if taken_out:
        set_aside(corrected_away(samples, taken_out))
    without_val = batches_without_val(samples, targets=list(targets))
    if without_val:
        samples["split"] = with_val(samples, without_val, split=split)
    samples["split"] = split_of_any_copy(samples)
    set_aside(unlabelled_copies(samples, targets=list(targets)))
    let_wait()
    set_aside(duplicates(samples, targets=list(targets)))
    of_kind = {
        kind: [name for name, target in targets.items() if target.kind == kind] for kind in ("classes", "several")
    }
    always = [name for name in targets if name not in of_kind["classes"]]
    named = [*of_kind["classes"], *of_kind["several"]]
    allowed = {
        name: options.classes.get(name) or list(names_of(samples[name], targets[name]).unique()) for name in named
    }
    classes = {name: allowed[name] for name in of_kind["classes"]}
    set_aside(labels_not_let_in(samples, allowed=classes, always=always, reason=UNKNOWN, details={}))
    let_in(allowed, UNKNOWN, {})
    in_use, probation = {}, {}
    for name in named:
        in_use[name], probation[name] = classes_in_order(
            samples[["batch"]].join(names_of(samples[name], targets[name]), how="right").reset_index(drop=True),
            target=name, registered=registered.get(name, []), min_samples=min_samples,
        )  # fmt: skip
    for name in of_kind["several"]:
        if len(in_use[name]) > MOST_LABELS:
            raise ValueError(
                f"{name} has {len(in_use[name]):,} different labels, expected at most {MOST_LABELS:,}: is its "
                "separator right? Or raise validate.min_samples_per_class"
            )
    details = {
        (name, label): f"{what} {label!r} of {name} has {count} of {min_samples} samples: it waits for more"
        for what, kind in (("class", "classes"), ("label", "several"))
        for name in of_kind[kind]
        for label, count in probation[name].items()
    }
    let_in({name: in_use[name] for name in of_kind["several"]}, WAITING, details)
    let_wait()
    classes = {name: in_use[name] for name in of_kind["classes"]}
    set_aside(labels_not_let_in(samples, allowed=classes, always=always, reason=WAITING, details=details))
    let_in(classes, WAITING, details)
    is_open = samples["split"].isna()
    keys = groups[samples.index[is_open]].fillna(samples.loc[is_open, "sample_id"])
    samples["split"] = samples["split"].fillna(sides_of(keys, split))
    num_waiting = sum(map(len, pools))
    return Admission(
        manifest=pd.concat([samples, *pools]).sort_index() if num_waiting else samples,
        ledger=pd.concat(ledgers, ignore_index=True),
        targets=_in_use(targets, in_use, samples),
        probation=probation,
        labels=pd.concat(labels, ignore_index=True),
        labels_of_ledger=gone,
    )


def _in_use(
    targets: Mapping[str, Target], names: Mapping[str, Sequence[str]], samples: pd.DataFrame
) -> dict[str, Target]:
    """Return the targets that have a class or a label in use, with these."""
    found: dict[str, Target] = {}
    for name, target in targets.items():
        if name not in names:
            found |= {name: target} if samples[name].notna().any() else {}
        elif names[name]:
            assert isinstance(target, Classes | Several)
            found[name] = replace(target, names=tuple(names[name]))
    return found


def _in_order(samples: pd.DataFrame) -> pd.DataFrame:
    """Return the samples, sorted by batch and path and numbered from 0; a copy only where they are not sorted yet."""
    batch, path = pd.factorize(samples["batch"])[0], samples["path"].array
    is_same = batch[1:] == batch[:-1]
    is_after = (batch[1:] > batch[:-1]) | (is_same & np.asarray(path[1:] >= path[:-1], dtype=bool))
    if is_after.all():
        return samples.reset_index(drop=True)
    return samples.sort_values(["batch", "path"], key=_landed, kind="stable", ignore_index=True)


def _without(samples: pd.DataFrame, gone: "pd.Index[int]") -> pd.DataFrame:
    """Return the samples without some. It takes their columns one by one, so that only one is in memory twice."""
    if not len(gone):
        return samples
    is_kept = ~samples.index.isin(gone)
    index = samples.index[is_kept]
    columns = {name: samples.pop(name).array[is_kept] for name in samples.columns.tolist()}
    return pd.DataFrame(columns, index=index, copy=False)


def _landed(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return the sort key of a column: batches sort in the order in which they landed, other columns by value."""
    if column.name != "batch":
        return column
    return pd.Series(pd.factorize(column)[0], index=column.index)
