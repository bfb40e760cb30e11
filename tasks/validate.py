"""All scanned batches in; the manifest, the quarantine ledger, the classes and the validation report out."""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.data.admission.accounts import account, budget, labels_of
from tasks.data.admission.admission import Admission, admit, target_columns
from tasks.data.admission.classes import class_changes
from tasks.data.admission.expectations import check_expectations, make_examination
from tasks.data.admission.options import ExpectationOptions, ValidateOptions
from tasks.data.admission.quarantine import LEDGER_COLUMNS
from tasks.data.admission.registry import Registry, read_registry
from tasks.data.admission.splits import facts_of, groups_across_splits, side_of, small_classes
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import SPLITS
from tasks.data.manifest.tables import read_table, write_table, write_text_table
from tasks.machine.files import whole_folder, write_json
from tasks.stage.main import main
from tasks.stage.params import ScanParams

logger = logging.getLogger("graftline")

MAX_NAMED = 50  # of the classes in probation, or groups, all of which the report counts


def run(
    *, scanned: Path, batches: Path, registry: Path, out: Path, validate: ValidateOptions, scan: ScanParams
) -> None:
    """Decide which samples are used, and on which side of the split they are."""
    names = read_batches(batches)
    by_batch = {batch: read_scanned(scanned, batch, "samples") for batch in names}
    samples = pd.concat(by_batch.values(), ignore_index=True)
    defects = pd.concat([read_scanned(scanned, batch, "defects") for batch in names], ignore_index=True)
    registered = read_registry(registry)
    targets, passed_over = target_columns(samples, validate, registered=registered.classes)
    admission = admit(
        samples, validate, targets=targets, registered=registered.classes, split=partial(side_of, split=validate)
    )
    manifest = admission.manifest
    ledger = pd.concat([defects[LEDGER_COLUMNS], admission.ledger], ignore_index=True)
    ledger = ledger.sort_values(LEDGER_COLUMNS, ignore_index=True)
    report = {
        "batches": account(samples, defects, manifest, ledger, names),
        "budget": budget(
            manifest,
            ledger,
            labels=labels_of(ledger, samples, defects, targets),
            classes=admission.classes,
            limits=validate.max_quarantined,
        ),
        "classes": {target: count_by_class(manifest, target, own) for target, own in admission.classes.items()},
        "class_changes": {target: named_changes(samples, target, registered) for target in targets},
        "passed_over": passed_over,
        "groups_across_splits": _named(groups_across_splits(manifest)),
        "probation": {target: _named(waiting) for target, waiting in admission.probation.items()},
        "registry_version": registered.version,
        "without_samples": without_samples(manifest, registered),
        "splits": small_classes(manifest, admission.classes),
        "expectations": expectations(manifest, names, admission, validate, min_image_size=scan.min_image_size),
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
    for line in warnings(report):
        logger.warning("warning: %s", line)
    num_classes = sum(map(len, admission.classes.values()))
    logger.info(
        "validated %s samples of %d classes, %s quarantined", f"{len(manifest):,}", num_classes, f"{len(ledger):,}"
    )
    for problem in problems(report, len(manifest), out):
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
    min_image_size: int,
) -> list[dict[str, Any]]:
    """Return the results of Great Expectations; none where there is no sample."""
    if manifest.empty:
        return []
    return check_expectations(
        make_examination(manifest, options, batches=batches, classes=admission.classes, min_image_size=min_image_size)
    )


def warnings(report: dict[str, Any]) -> Iterator[str]:
    """Yield what a person should know that does not stop the run."""
    for result in report["expectations"]:
        if not result["success"] and result["severity"] == "warning":
            yield _unmet(result)
    for target, changes in report["class_changes"].items():
        for batch, change in changes.items():
            for old, new in change.get("perhaps_renamed", {"named": []})["named"]:
                yield f"batch {batch} has class {new!r} of {target} where others have {old!r}: is it renamed?"
    for target, names in report["without_samples"].items():
        yield f"registered classes of {target} have no samples: {', '.join(map(repr, names['named']))}"
    for target, waiting in report["probation"].items():
        if waiting["count"]:
            names = ", ".join(map(repr, waiting["named"]))
            yield f"{waiting['count']} classes of {target} wait for more samples: {names}"
    if report["groups_across_splits"]["count"]:
        yield f"{report['groups_across_splits']['count']} groups are on several sides of the split by its column"


def problems(report: dict[str, Any], num_samples: int, out: Path) -> Iterator[str]:
    """Yield the problems that stop the run, the most useful first."""
    ledger = out / "quarantine.csv"
    waiting = sum(classes["count"] for classes in report["probation"].values())
    if not num_samples and waiting:
        yield (
            f"no sample can be used: all {waiting} classes wait for more samples, see {ledger}: add samples, or lower "
            "validate.min_samples_per_class"
        )
    elif not num_samples:
        yield (
            f"no usable images at all ({sum(counts['in'] for counts in report['batches'].values())} quarantined): see "
            f"{ledger}; "
            "is there data/raw/<batch>/<class>/, or data/raw/<batch>/labels.csv?"
        )
    for excess in report["budget"]["exceeded"]:
        yield (
            f"{excess['quarantined_fraction']:.1%} of {excess['of']} are quarantined, expected at most "
            f"{excess['limit']:.1%}: mend what {ledger} names, or raise validate.max_quarantined"
        )
    for line in report["splits"]:
        yield f"{line}: add samples of it, give some a `split`, or raise validate.min_samples_per_class"
    for result in report["expectations"]:
        if not result["success"] and result["severity"] == "error":
            yield f"{_unmet(result)}: see {out / 'validation.json'}"


def _unmet(result: dict[str, Any]) -> str:
    return (
        f"the data does not meet {result['expectation']} {result['column']}: expected {result['expected']}, observed "
        f"{result['observed']} ({result['num_unexpected']} unexpected)"
    )


def _named(names: dict[str, int] | list[Any]) -> dict[str, Any]:
    """Return how many there are, and the first of them."""
    first = dict(list(names.items())[:MAX_NAMED]) if isinstance(names, dict) else names[:MAX_NAMED]
    return {"count": len(names), "named": first}


if __name__ == "__main__":
    main(run)
