"""All scanned batches in; the manifest, the quarantine ledger, the classes and the validation report out."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.data.admission.accounts import account, batches_without_table, budget, labels_of, labels_said, lost_classes
from tasks.data.admission.admission import Admission, admit
from tasks.data.admission.classes import class_changes
from tasks.data.admission.columns import target_columns
from tasks.data.admission.expectations import check_expectations, make_examination
from tasks.data.admission.nesting import named_like_classes, wrapped
from tasks.data.admission.options import ExpectationOptions, ValidateOptions
from tasks.data.admission.quarantine import LEDGER_COLUMNS, NOT_A_SAMPLE, commonest
from tasks.data.admission.registry import Registry, read_registry
from tasks.data.admission.remarks import (
    MAX_SHOWN,
    NO_JUDGE,
    TOO_DEEP,
    about_columns,
    about_folders,
    about_inner_folders,
    about_names,
    about_splits,
)
from tasks.data.admission.spellings import merged, plain
from tasks.data.admission.splits import facts_of, groups_across_splits, side_of, small_classes
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import SPLITS, used_of
from tasks.data.manifest.tables import read_table, write_table, write_text_table
from tasks.machine.files import whole_folder, write_json
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.stage.params import ScanParams

logger = logging.getLogger("graftline")

MAX_NAMED = 50  # of the classes in probation, or groups, all of which the report counts


def run(
    *,
    scanned: Path,
    batches: Path,
    registry: Path,
    out: Path,
    validate: ValidateOptions,
    scan: ScanParams,
    modality: Modality,
) -> None:
    """Decide which samples are used, and on which side of the split they are."""
    names = read_batches(batches)
    by_batch = {batch: read_scanned(scanned, batch, "samples") for batch in names}
    samples = merged(pd.concat(by_batch.values(), ignore_index=True), validate.merge)
    defects = pd.concat([read_scanned(scanned, batch, "defects") for batch in names], ignore_index=True)
    registered = read_registry(registry)
    facts = [field.name for field in fields(room(modality, "facts").Facts)]
    targets, passed_over = target_columns(samples, validate, registered=registered.classes, facts=facts)
    admission = admit(
        samples, validate, targets=targets, registered=registered.classes, split=partial(side_of, split=validate)
    )
    manifest = admission.manifest
    ledger = pd.concat([defects[LEDGER_COLUMNS], admission.ledger], ignore_index=True)
    ledger = ledger.sort_values(LEDGER_COLUMNS, ignore_index=True)
    labels = labels_of(
        ledger, samples[["batch", "path", *targets]], merged(labels_said(defects, targets), validate.merge)
    )
    counts = account(samples, defects, manifest, ledger, names)
    too_deep = {batch: deep for target in targets for batch, deep in wrapped(samples, target=target).items()}
    report: dict[str, Any] = {
        "batches": counts,
        "budget": budget(manifest, ledger, labels=labels, classes=admission.classes, limits=validate.max_quarantined),
        "classes": {target: count_by_class(manifest, target, own) for target, own in admission.classes.items()},
        "class_changes": {target: named_changes(samples, target, registered) for target in targets},
        "lost_classes": lost_classes(manifest, ledger, labels=labels),
        "passed_over": passed_over,
        "groups_across_splits": _named(groups_across_splits(manifest)),
        "probation": {target: _named(waiting) for target, waiting in admission.probation.items()},
        "registry_version": registered.version,
        "reasons": commonest(ledger),
        "remarks": [
            *about_columns(samples, targets, passed_over, validate),
            *about_splits(samples, targets),
            *about_names(samples, targets, registered.classes, validate),
            *(about_folders(batch, deep) for batch, deep in too_deep.items()),
            *(remark for target in targets for remark in about_inner_folders(samples, target)),
        ],
        "too_deep": [
            f"{about_folders(batch, deep)}: a folder in it is called like a class of other batches"
            for batch, deep in too_deep.items()
            if named_like_classes(deep, classes_elsewhere(samples, batch, targets, registered))
        ],
        "unreadable_tables": batches_without_table(ledger, counts),
        "without_samples": without_samples(manifest, registered),
        "splits": small_classes(manifest, admission.classes),
        "expectations": expectations(
            manifest, names, admission, validate, facts=facts, min_image_size=scan.min_image_size
        ),
    }
    with whole_folder(out) as folder:
        (folder / "manifest").mkdir()
        used = dict(list(manifest.groupby("batch")))
        for batch, table in by_batch.items():
            rows = used.get(batch, manifest[:0])[["batch", *table.columns.drop("batch")]]
            write_table(folder / "manifest" / f"{batch}.parquet", rows.sort_values("path").reset_index(drop=True))
        write_text_table(folder / "quarantine.csv", ledger)
        write_json(folder / "classes.json", admission.classes)
        write_json(folder / "split.json", facts_of(validate))
        write_json(folder / "validation.json", report)
    for warning in warnings(report):
        logger.warning("warning: %s", warning)
    for target, by_class in report["classes"].items():
        logger.info("target %s: %s", target, shown_counts(by_class))
    num_pool = sum(count["pool"] for count in counts.values())
    num_others = int((ledger["reason"] == NOT_A_SAMPLE).sum())
    logger.info(
        "validated %s samples of %d classes, %s%s quarantined%s",
        f"{len(manifest) - num_pool:,}",
        sum(map(len, admission.classes.values())),
        f"{num_pool:,} without a label in the pool, " if num_pool else "",
        f"{len(ledger) - num_others:,}",
        f", {num_others:,} others that are no samples" if num_others else "",
    )
    for problem in problems(report, out):
        raise ValueError(problem)


def read_scanned(scanned: Path, batch: str, kind: str) -> pd.DataFrame:
    """Return the `samples` or the `defects` of a batch, with its name."""
    return read_table(scanned / batch / f"{kind}.parquet", batch=batch).assign(batch=batch)


def count_by_class(manifest: pd.DataFrame, target: str, classes: list[str]) -> dict[str, dict[str, int]]:
    """Count the samples of every class, by split."""
    counts = manifest.groupby([target, "split"]).size()
    return {name: {split: int(counts.get((name, split), 0)) for split in SPLITS} for name in classes}


def named_changes(samples: pd.DataFrame, target: str, registered: Registry) -> dict[str, Any]:
    """Return the class changes of every batch; of long lists the first entries and their number."""
    changes = class_changes(samples, target=target, registered=registered.classes.get(target, []))
    return {batch: {kind: _named(names) for kind, names in change.items()} for batch, change in changes.items()}


def without_samples(manifest: pd.DataFrame, registered: Registry) -> dict[str, Any]:
    """Return the registered classes that have no samples left, by target."""
    there = {target: set(manifest[target].dropna()) if target in manifest else set() for target in registered.classes}
    gone = {
        target: [name for name in names if name not in there[target]] for target, names in registered.classes.items()
    }
    return {target: _named(names) for target, names in gone.items() if names}


def expectations(
    manifest: pd.DataFrame,
    batches: list[str],
    admission: Admission,
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
            batches=batches, classes=admission.classes, facts=facts, min_image_size=min_image_size,
        )
    )  # fmt: skip


def classes_elsewhere(samples: pd.DataFrame, batch: str, targets: Sequence[str], registered: Registry) -> set[str]:
    """Return the classes that are registered, or that other batches have."""
    others = samples.loc[samples["batch"] != batch, list(targets)]
    return {str(name) for target in targets for name in others[target].dropna().unique()}.union(
        *registered.classes.values()
    )


def shown_counts(by_class: dict[str, dict[str, int]]) -> str:
    """Return the classes and their numbers of samples in a line, the largest first."""
    counts = {name: sum(splits.values()) for name, splits in by_class.items()}
    largest = sorted(counts, key=lambda name: (-counts[name], name))
    more = len(largest) - MAX_SHOWN
    return ", ".join(f"{name!r} {counts[name]:,}" for name in largest[:MAX_SHOWN]) + f" and {more:,} more" * (more > 0)


def warnings(report: dict[str, Any]) -> Iterator[str]:
    """Yield what a person should know that does not stop the run."""
    yield from report["remarks"]
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
    target = max(report["probation"], key=lambda name: report["probation"][name]["count"], default="")
    if not num_used and waiting:
        yield (
            f"no sample can be used: all {waiting} classes wait for more samples, see {ledger}: add samples, or lower "
            f"validate.min_samples_per_class; or has {target!r} no classes, but texts or names? Then "
            f"name the columns to learn in validate.targets.{because}"
        )
    elif not num_used:
        found = f"none of {num_pool:,} samples has a label" if num_pool else "no usable samples at all"
        yield (
            f"{found} ({num_quarantined:,} quarantined): see {ledger}; is there data/raw/<batch>/<class>/, or "
            f"data/raw/<batch>/labels.csv? A table of texts has a column for each target.{because}"
        )
    for excess in report["budget"]["exceeded"]:
        yield (
            f"{excess['quarantined_fraction']:.1%} of {excess['of']} are quarantined, expected at most "
            f"{excess['limit']:.1%}: mend what {ledger} names, or raise validate.max_quarantined. Set aside: "
            f"{excess['reasons']}"
        )
    yield from report["too_deep"]
    no_judge = "".join(f"{remark}. " for remark in report["remarks"] if NO_JUDGE in remark)
    for shortage in report["splits"]:
        yield (
            f"{no_judge}{shortage}: add samples of it, give some a `split`, or raise validate.min_samples_per_class."
            f"{because}"
        )
    for result in report["expectations"]:
        if not result["success"] and result["severity"] == "error":
            of_classes = result["name"] == "min_classes"
            deep = [f"{remark}. " for remark in report["remarks"] if of_classes and TOO_DEEP in remark]
            yield f"{''.join(deep)}{result['sentence']}.{because}"


def _named(names: dict[str, int] | list[Any]) -> dict[str, Any]:
    """Return how many there are, and the first of them."""
    first = dict(list(names.items())[:MAX_NAMED]) if isinstance(names, dict) else names[:MAX_NAMED]
    return {"count": len(names), "named": first}


if __name__ == "__main__":
    main(run)
