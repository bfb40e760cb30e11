"""What was scanned in; the samples that are used, on which side of the split and with which classes, and those that are not, out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from tasks.data.classes import classes_in_order
from tasks.data.entries import FACTS, KEYS
from tasks.data.manifest import SPLITS
from tasks.data.quarantine import WAITING, duplicates, labels_not_let_in, ledger_of, missing_labels


@dataclass(frozen=True, kw_only=True)
class Admission:
    """What became of the samples: each is a row of the manifest or of the ledger.

    `classes` are those in use, by target in the order of the logits; `probation` counts the samples of those that wait.
    """

    manifest: pd.DataFrame
    ledger: pd.DataFrame
    classes: dict[str, list[str]]
    probation: dict[str, dict[str, int]]


def admit(
    samples: pd.DataFrame,
    *,
    targets: Sequence[str],
    registered: Mapping[str, Sequence[str]],
    fixed: Mapping[str, Sequence[str]],
    min_samples_per_class: int,
    split: Callable[[str], str],
) -> Admission:
    """Decide over each sample.

    Args:
        samples: columns batch, path, sample_id, group, split and the targets, batches in the order in which they landed.
        targets: the columns to learn.
        registered: by target, the classes of the model in use, which keep their places.
        fixed: by target, the classes that are let in; no entry lets in all.
        min_samples_per_class: with fewer, a class that is not registered waits in probation.
        split: the side of a group, or of a sample_id.
    """
    samples = _preferred_first(samples)
    ledgers: list[pd.DataFrame] = []

    def set_aside(found: pd.DataFrame) -> None:
        nonlocal samples
        ledgers.append(ledger_of(samples, found))
        samples = samples.drop(found.index)

    set_aside(missing_labels(samples, targets=targets))
    set_aside(duplicates(samples, targets=targets))
    known = {target: fixed.get(target) or list(samples[target].dropna().unique()) for target in targets}
    set_aside(labels_not_let_in(samples, allowed=known, reason="unknown_class", details={}))
    _leave_out(samples, known)
    classes, probation = {}, {}
    for target in targets:
        classes[target], probation[target] = classes_in_order(
            samples, target=target, registered=registered.get(target, []), min_samples=min_samples_per_class
        )
    waiting = {
        (target, name): f"class {name!r} of {target} has {count} of {min_samples_per_class} samples: it waits for more"
        for target, counts in probation.items()
        for name, count in counts.items()
    }
    set_aside(labels_not_let_in(samples, allowed=classes, reason=WAITING, details=waiting))
    _leave_out(samples, classes)
    keys = samples["group"].fillna(samples["sample_id"])
    samples["split"] = samples["split"].fillna(keys.map({key: split(key) for key in keys.unique()}))
    ledger = pd.concat(ledgers, ignore_index=True)
    in_use = {target: names for target, names in classes.items() if names}
    return Admission(manifest=samples, ledger=ledger, classes=in_use, probation=probation)


def target_columns(
    samples: pd.DataFrame, *, chosen: Sequence[str] | None, fixed: Mapping[str, Sequence[str]]
) -> list[str]:
    """The targets among the columns of the samples: those chosen, or all.

    Raises:
        ValueError: one that is chosen, or whose classes are fixed, is not there.
    """
    found = [name for name in samples.columns if name not in (*FACTS, *KEYS)]
    for key, names in (("targets", chosen or []), ("classes", list(fixed))):
        missing = [name for name in names if name not in found]
        if missing:
            raise ValueError(
                f"validate.{key} names {missing[0]!r}, which no batch has, expected of {', '.join(found) or 'none'}: "
                "correct the spelling, or label the data"
            )
    return list(chosen or found)


def small_classes(manifest: pd.DataFrame, classes: Mapping[str, Sequence[str]]) -> list[str]:
    """What is wrong with each class that has samples, but not in every split: it could not be learned, chosen by, or
    judged. A class without any samples keeps its place, and says nothing."""
    problems = []
    for target, names in classes.items():
        counts = pd.crosstab(manifest[target], manifest["split"]).reindex(columns=list(SPLITS), fill_value=0)
        small = counts[(counts == 0).any(axis=1) & counts.index.isin(names)]
        problems += [
            f"class {name!r} of {target} has {train} train, {val} val, {heldout} heldout samples, expected one of each"
            for name, train, val, heldout in small.reset_index().itertuples(index=False)
        ]
    return problems


def groups_across_splits(manifest: pd.DataFrame) -> list[str]:
    """The groups that an explicit split tears apart."""
    sides = manifest.groupby("group")["split"].nunique()
    return sorted(sides[sides > 1].index)


def _preferred_first(samples: pd.DataFrame) -> pd.DataFrame:
    """The samples by batch; within a batch those held out by name first, so that they stay when copies go."""
    order = {batch: place for place, batch in enumerate(dict.fromkeys(samples["batch"]))}
    keys = pd.DataFrame(
        {"batch": samples["batch"].map(order), "is_not": samples["split"] != "heldout", "path": samples["path"]}
    )
    return samples.loc[keys.sort_values(["batch", "is_not", "path"], kind="stable").index].reset_index(drop=True)


def _leave_out(samples: pd.DataFrame, allowed: Mapping[str, Sequence[str]]) -> None:
    """Take away the labels that are not allowed, from samples that have others."""
    for target, names in allowed.items():
        samples[target] = samples[target].where(samples[target].isin(names))
