"""The scanned batches and corrections in; the manifest, the quarantine ledger, the classes and a report out."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks.data.admission.accounts import (
    account,
    account_labels,
    batches_without_table,
    budget,
    labels_of,
    labels_said,
    lost_classes,
    lost_labels,
)
from tasks.data.admission.admission import admit
from tasks.data.admission.classes import class_changes
from tasks.data.admission.columns import target_columns
from tasks.data.admission.corrected import correct
from tasks.data.admission.corrections import read_corrections
from tasks.data.admission.expectations import check_expectations, make_examination
from tasks.data.admission.labels import LABEL_COLUMNS, names_of, num_labels, read_labels
from tasks.data.admission.nesting import named_like_classes, wrapped
from tasks.data.admission.options import ExpectationOptions, ValidateOptions
from tasks.data.admission.quarantine import LEDGER_COLUMNS, NOT_A_SAMPLE, commonest
from tasks.data.admission.registry import Registry, read_registry
from tasks.data.admission.remarks import (
    MAX_SHOWN,
    NO_JUDGE,
    NOT_LEARNED,
    TOO_DEEP,
    about_columns,
    about_folders,
    about_inner_folders,
    about_kinds,
    about_names,
    about_splits,
)
from tasks.data.admission.spellings import merged, plain
from tasks.data.admission.splits import facts_of, groups_across_splits, side_of, small_classes
from tasks.data.admission.target_kinds import decided_kinds, joined_columns, without_labels
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import SPLITS, domains_of, used_of
from tasks.data.manifest.tables import read_table, write_table, write_text_table
from tasks.machine.files import whole_folder, write_json
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.stage.params import ScanParams
from tasks.targets.kinds import declared_of
from tasks.targets.target import Target
from tasks.training.alignment.options import AdaptOptions
from tasks.training.alignment.selection import check_domains

logger = logging.getLogger("graftline")

GROWING = ("classes", "several")  # the kinds that a batch may bring new names of
MAX_NAMED = 50  # of the classes in probation, or groups, all of which the report counts


def run(
    *,
    scanned: Path,
    batches: Path,
    registry: Path,
    corrections: Path,
    out: Path,
    validate: ValidateOptions,
    scan: ScanParams,
    adapt: AdaptOptions,
    modality: Modality,
) -> None:
    """Decide which samples are used, and on which side of the split they are.

    `adapt` is read for the names of the domains alone: a misspelt one is refused here, before anything is trained.
    """
    names = read_batches(batches)
    tables = [read_scanned(scanned, batch, "samples") for batch in names]
    columns_of = {batch: table.columns for batch, table in zip(names, tables, strict=True)}
    came = pd.concat(tables, ignore_index=True)
    tables.clear()
    defects = pd.concat([read_scanned(scanned, batch, "defects") for batch in names], ignore_index=True)
    registered = read_registry(registry)
    facts = [field.name for field in fields(room(modality, "facts").Facts)]
    joined = joined_columns(list(came.columns), validate.targets, registered=registered.classes)
    decisions = read_corrections(corrections)
    corrected = None
    if decisions:
        corrected = correct(
            came, decisions, defects=set(defects["sample_id"]), joined=joined,
            declared={*(validate.targets or ()), *registered.classes}, facts=facts,
        )  # fmt: skip
        came = corrected.samples
        for batch, more in corrected.columns.items():
            columns_of[batch] = columns_of[batch].union(pd.Index(more), sort=False)
    came = merged(came, validate.merge)
    columns, passed_over = target_columns(
        came, validate, registered=registered.classes, facts=facts, joined=joined
    )  # fmt: skip
    kinds = decided_kinds(
        came.reindex(columns=columns), columns, validate.targets, registered=registered.classes
    )  # fmt: skip
    targets = kinds.targets
    samples, unread = read_labels(came, targets, joined=joined, merge=validate.merge)
    given = {name: num_labels(samples[name], own) for name, own in targets.items()}
    # admission frees its own columns one by one as it drops rows: two copies of millions of samples do not fit
    handed = [samples]
    came, samples = (table.drop(columns=["sample_id", *facts], errors="ignore") for table in (came, samples))
    admission = admit(
        handed.pop(), validate, targets=targets, registered=registered.names, split=partial(side_of, split=validate),
        taken_out=corrected.reasons if corrected else None,
    )  # fmt: skip
    set_aside = pd.concat([unread, admission.labels]).sort_values(LABEL_COLUMNS, ignore_index=True)
    given = {name: num + int((unread["target"] == name).sum()) for name, num in given.items()}
    labelled = {name for name, num in given.items() if num}
    of_labels = account_labels(
        given, admission.manifest, set_aside, admission.labels_of_ledger, targets=targets,
    )  # fmt: skip
    manifest = admission.manifest
    ledger = pd.concat([defects[LEDGER_COLUMNS], admission.ledger], ignore_index=True)
    ledger = ledger.sort_values(LEDGER_COLUMNS, ignore_index=True)
    named = [name for name, own in targets.items() if own.kind in ("classes", "ordinal")]
    labels = labels_of(ledger, samples[["batch", "path", *named]], merged(labels_said(defects, named), validate.merge))
    in_use = {name: own.names for name, own in admission.targets.items() if name in named}
    are_classes = [name for name, own in targets.items() if own.kind == "classes"]
    counts = account(samples, defects, manifest, ledger, names)
    too_deep = {batch: deep for target in are_classes for batch, deep in wrapped(samples, target=target).items()}
    report: dict[str, Any] = {
        "batches": counts,
        "budget": budget(manifest, ledger, labels=labels, classes=in_use, limits=validate.max_quarantined),
        "classes": {name: counted(manifest, name, own) for name, own in admission.targets.items()},
        "class_changes": {
            name: named_changes(samples, name, own, registered) for name, own in targets.items() if own.kind in GROWING
        },
        "lost_classes": lost_classes(manifest, ledger, labels=labels),
        "passed_over": passed_over,
        "groups_across_splits": _named(groups_across_splits(manifest)),
        "probation": {target: _named(waiting) for target, waiting in admission.probation.items()},
        "registry_version": registered.version,
        "reasons": commonest(ledger),
        "remarks": [
            *about_columns(came, targets, passed_over, validate),
            *about_splits(samples, list(targets)),
            *about_names(samples, targets, registered.names, validate),
            *about_kinds(samples, targets, validate.targets),
            *without_labels(list(came.columns), labelled | set(admission.targets), validate.targets),
            *(about_folders(batch, deep) for batch, deep in too_deep.items()),
            *(remark for target in are_classes for remark in about_inner_folders(samples, target)),
        ],
        "too_deep": [
            f"{about_folders(batch, deep)}: a folder in it is called like a class of other batches"
            for batch, deep in too_deep.items()
            if named_like_classes(deep, classes_elsewhere(samples, batch, are_classes, registered))
        ],
        "unreadable_tables": batches_without_table(ledger, counts),
        "without_samples": without_samples(manifest, admission.targets, registered),
        "splits": small_classes(manifest, admission.targets),
        "expectations": expectations(
            manifest, names, admission.targets, validate, facts=facts, min_image_size=scan.min_image_size
        ),
    }
    if any(own.kind != "classes" for own in targets.values()) or len(set_aside):
        report["labels"] = of_labels
        report["lost_labels"] = lost_labels(of_labels, set_aside, limits=validate.max_quarantined)
    if kinds.reasons:
        report["kinds"] = {name: {"kind": targets[name].kind, "reason": why} for name, why in kinds.reasons.items()}
    if corrected:
        report["corrections"] = {"labels": len(corrected.changed), "set_aside": len(corrected.reasons)}
        report["remarks"] += corrected.remarks
    with whole_folder(out) as folder:
        (folder / "manifest").mkdir()
        used = manifest.groupby("batch").indices
        for batch, own_columns in columns_of.items():
            of_batch = [name for name, own in joined.items() if name in targets and {*own} & {*own_columns}]
            rows = manifest[["batch", *own_columns.drop("batch"), *of_batch]].iloc[used.get(batch, [])]
            write_table(folder / "manifest" / f"{batch}.parquet", rows.sort_values("path").reset_index(drop=True))
        write_text_table(folder / "quarantine.csv", ledger)
        write_text_table(folder / "labels.csv", set_aside)
        if corrected:
            write_text_table(folder / "corrected.csv", corrected.changed)
        write_json(folder / "classes.json", declared_of(admission.targets))
        write_json(folder / "split.json", facts_of(validate))
        write_json(folder / "validation.json", report)
    for warning in warnings(report):
        logger.warning("warning: %s", warning)
    for name, own in report.get("kinds", {}).items():
        logger.info("target %s is of the kind %s: %s", name, own["kind"], own["reason"])
    for name, counts_of in report["classes"].items():
        logger.info("target %s: %s", name, shown_counts(counts_of, admission.targets[name]))
    if corrected:
        logger.info(
            "corrections of people: %s labels are others than they came as, %s samples are set aside",
            f"{len(corrected.changed):,}", f"{len(corrected.reasons):,}",
        )  # fmt: skip
    num_pool = sum(count["pool"] for count in counts.values())
    num_others = int((ledger["reason"] == NOT_A_SAMPLE).sum())
    logger.info(
        "validated %s samples of %d classes, %s%s quarantined%s",
        f"{len(manifest) - num_pool:,}",
        sum(len(own.names) for own in admission.targets.values()),
        f"{num_pool:,} without a label in the pool, " if num_pool else "",
        f"{len(ledger) - num_others:,}",
        f", {num_others:,} others that are no samples" if num_others else "",
    )
    for problem in problems(report, out):
        raise ValueError(problem)
    if read_corrections(corrections) != decisions:  # DVC hashes the file now, and would take it for applied
        raise ValueError(f"{corrections} changed while the samples were validated: run again")
    check_domains(sorted(domains_of(manifest[manifest["split"] != "heldout"]).unique()), adapt.targets)


def read_scanned(scanned: Path, batch: str, kind: str) -> pd.DataFrame:
    """Return the `samples` or the `defects` of a batch, with its name."""
    return read_table(scanned / batch / f"{kind}.parquet", batch=batch).assign(batch=batch)


def counted(manifest: pd.DataFrame, name: str, target: Target) -> dict[str, dict[str, Any]]:
    """Count the samples of every class, label or step, by split; of a number return its range and median by split."""
    labels, splits = manifest[name].dropna(), manifest["split"]
    if target.kind == "number":
        by_split = {split: target.encode(labels[splits == split]) for split in SPLITS}
        return {
            split: {"count": len(of), "min": float(of.min()), "median": float(np.median(of)), "max": float(of.max())}
            for split, of in by_split.items()
            if len(of)
        }
    names = names_of(labels, target)
    counts = names.groupby([names, splits[names.index].array]).size()
    return {each: {split: int(counts.get((each, split), 0)) for split in SPLITS} for each in target.names}


def named_changes(samples: pd.DataFrame, name: str, target: Target, registered: Registry) -> dict[str, Any]:
    """Return the changes of classes or labels of every batch; of long lists the first entries and their number."""
    rows = samples[["batch"]].join(names_of(samples[name], target), how="left")
    changes = class_changes(rows, target=name, registered=registered.names.get(name, []))
    return {batch: {kind: _named(names) for kind, names in change.items()} for batch, change in changes.items()}


def without_samples(manifest: pd.DataFrame, targets: Mapping[str, Target], registered: Registry) -> dict[str, Any]:
    """Return the registered classes, labels and steps that have no samples left, by target."""
    there = {name: set(names_of(manifest[name], own)) for name, own in targets.items()}
    gone = {
        name: [each for each in known if each not in there.get(name, ())] for name, known in registered.names.items()
    }
    return {name: _named(names) for name, names in gone.items() if names}


def expectations(
    manifest: pd.DataFrame,
    batches: list[str],
    targets: Mapping[str, Target],
    options: ExpectationOptions,
    *,
    facts: Sequence[str],
    min_image_size: int,
) -> list[dict[str, Any]]:
    """Return the results of Great Expectations; none where no sample is used."""
    if used_of(manifest).empty:
        return []
    return check_expectations(
        make_examination(
            manifest, options,
            batches=batches, targets=targets, facts=facts, min_image_size=min_image_size,
        )
    )  # fmt: skip


def classes_elsewhere(samples: pd.DataFrame, batch: str, targets: Sequence[str], registered: Registry) -> set[str]:
    """Return the classes that are registered, or that other batches have."""
    others = samples.loc[samples["batch"] != batch, list(targets)]
    return {str(name) for target in targets for name in others[target].dropna().unique()}.union(
        *registered.names.values()
    )


def shown_counts(by_class: Mapping[str, Mapping[str, Any]], target: Target) -> str:
    """Return the classes and their numbers of samples in a line, the largest first; of a number its range."""
    if target.kind == "number":
        own = by_class.values()
        low, high = min(of["min"] for of in own), max(of["max"] for of in own)
        return f"{sum(of['count'] for of in own):,} numbers from {low:g} to {high:g}"
    counts = {name: sum(splits.values()) for name, splits in by_class.items()}
    largest = sorted(counts, key=lambda name: (-counts[name], name))
    more = len(largest) - MAX_SHOWN
    return ", ".join(f"{name!r} {counts[name]:,}" for name in largest[:MAX_SHOWN]) + f" and {more:,} more" * (more > 0)


def warnings(report: dict[str, Any]) -> Iterator[str]:
    """Yield warnings for a person, which do not stop the run."""
    yield from report["remarks"]
    for name, counts in report.get("labels", {}).items():
        if counts["set_aside"]:
            reasons = ", ".join(f"{num:,} {reason}" for reason, num in counts["set_aside"].items())
            num, given = sum(counts["set_aside"].values()), counts["given"]
            yield f"{num:,} of {given:,} labels of {name} are set aside, see labels.csv: {reasons}"
    for result in report["expectations"]:
        if not result["success"] and result["severity"] == "warning":
            yield result["sentence"]
    for target, lost in report["lost_classes"].items():
        for name, reasons in lost.items():
            yield f"every sample of class {name!r} of {target} is lost: {reasons}"
    for target, changes in report["class_changes"].items():
        for batch, change in changes.items():
            for old, new in change.get("perhaps_renamed", {"named": []})["named"]:
                if plain(old) == plain(new):  # a remark asks about it
                    continue
                yield f"batch {batch} has class {new!r} of {target} where others have {old!r}: is it renamed?"
    for target, names in report["without_samples"].items():
        yield f"registered classes of {target} have no samples: {', '.join(map(repr, names['named']))}"
    for target, waiting in report["probation"].items():
        if waiting["count"]:
            names = ", ".join(map(repr, waiting["named"]))
            yield f"{waiting['count']} classes of {target} wait for more samples: {names}"
    if report["groups_across_splits"]["count"]:
        yield f"{report['groups_across_splits']['count']} groups are on several sides of the split by its column"


def problems(report: dict[str, Any], out: Path) -> Iterator[str]:
    """Yield the problems that stop the run, the most useful first, with the commonest reasons in the ledger."""
    ledger = out / "quarantine.csv"
    because = f" Set aside: {report['reasons']}" if report["reasons"] else ""
    counts = report["batches"].values()
    num_used, num_pool = (sum(count[state] for count in counts) for state in ("used", "pool"))
    num_quarantined = sum(count["in"] for count in counts) - num_used - num_pool
    waiting = sum(classes["count"] for classes in report["probation"].values())
    for batch, reasons in report["unreadable_tables"].items():
        yield f"nothing of batch {batch} can be used, because its table cannot be read: mend it. Set aside: {reasons}"
    for lost in report.get("lost_labels", []):
        yield (
            f"{lost['fraction']:.1%} of the labels of {lost['target']} are set aside, expected at most "
            f"{lost['limit']:.1%}: mend what {out / 'labels.csv'} names, declare its kind in validate.targets, or "
            f"raise validate.max_quarantined.overall. Set aside: {lost['reasons']}"
        )
    target = max(report["probation"], key=lambda name: report["probation"][name]["count"], default="")
    if not num_used and waiting:
        yield (
            f"no sample can be used: all {waiting} classes wait for more samples, see {ledger}: add samples, or lower "
            f"validate.min_samples_per_class; or has {target!r} no classes, but texts or names? Then "
            f"name the columns to learn in validate.targets.{because}"
        )
    elif not num_used:
        found = f"none of {num_pool:,} samples has a label" if num_pool else "no usable samples at all"
        passed_over = [remark for remark in report["remarks"] if remark.startswith(NOT_LEARNED)]
        labels = passed_over or [
            "is there data/raw/<batch>/<class>/, or data/raw/<batch>/labels.csv? A table of texts has a column for "
            "each target."
        ]
        yield f"{found} ({num_quarantined:,} quarantined): see {ledger}; {labels[0]}{because}"
    for excess in report["budget"]["exceeded"]:
        yield (
            f"{excess['quarantined_fraction']:.1%} of {excess['of']} are quarantined, expected at most "
            f"{excess['limit']:.1%}: mend what {ledger} names, or raise validate.max_quarantined. Set aside: "
            f"{excess['reasons']}"
        )
    yield from report["too_deep"]
    no_judge = "".join(f"{remark}. " for remark in report["remarks"] if NO_JUDGE in remark)
    for shortage in report["splits"]:
        advice = (
            "add samples of it, give some a `split`, or raise validate.min_samples_per_class"
            if shortage.endswith("expected one of each")
            else "label other samples, give some a `split`, or take the target out of validate.targets"
        )
        yield f"{no_judge}{shortage}: {advice}.{because}"
    for result in report["expectations"]:
        if not result["success"] and result["severity"] == "error":
            of_classes = result["name"] == "min_classes"
            deep = [f"{remark}. " for remark in report["remarks"] if of_classes and TOO_DEEP in remark]
            yield f"{''.join(deep)}{result['sentence']}.{because}"


def _named(names: dict[str, int] | list[Any]) -> dict[str, Any]:
    """Return the number of the names, and the first of them."""
    first = dict(list(names.items())[:MAX_NAMED]) if isinstance(names, dict) else names[:MAX_NAMED]
    return {"count": len(names), "named": first}


if __name__ == "__main__":
    main(run)
