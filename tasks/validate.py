"""All scanned batches in; a manifest file a batch, the quarantine ledger, the classes and the validation report out."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from tasks import stage
from tasks.data.batches import read_batches
from tasks.data.classes import classes_in_order
from tasks.data.expectations import check_expectations
from tasks.data.manifest import SPLITS, write_table
from tasks.data.quarantine import LEDGER_COLUMNS, exact_duplicates, small_classes, without
from tasks.data.splits import split_of
from tasks.files import whole_folder, write_json
from tasks.params import ScanParams, ValidateParams

logger = logging.getLogger("graftline")

TARGET = "label"


def run(*, scanned: Path, batches: Path, out: Path, validate: ValidateParams, scan: ScanParams) -> None:
    """Decide which samples are used, and on which side of the split."""
    names = read_batches(batches)
    samples = _read(scanned, names, "samples.parquet", pd.read_parquet)
    defects = _read(scanned, names, "defects.csv", _read_defects)[LEDGER_COLUMNS]
    manifest, ledger = admit(samples, defects, validate)
    assert len(manifest) + len(ledger) == len(samples) + len(defects)
    classes = {TARGET: classes_in_order(manifest, target=TARGET)}
    report = {
        "batches": count_by_batch(manifest, ledger, names),
        "budget": budget(manifest, ledger, validate.max_quarantined_fraction),
        "classes": count_by_class(manifest, classes[TARGET]),
    }
    if len(manifest):
        report["expectations"] = check_expectations(
            manifest,
            classes=classes[TARGET],
            target=TARGET,
            min_samples=validate.min_samples,
            min_class_fraction=validate.min_class_fraction,
            min_size=scan.min_image_size,
        )
    with whole_folder(out) as folder:
        (folder / "manifest").mkdir()
        for batch in names:
            rows = manifest[manifest["batch"] == batch].sort_values("path")
            write_table(folder / "manifest" / f"{batch}.parquet", rows.reset_index(drop=True))
        ledger.to_csv(folder / "quarantine.csv", index=False)
        write_json(folder / "classes.json", classes)
        write_json(folder / "validation.json", report)
    logger.info("validated %s samples of %s classes, %s quarantined", *_counts(manifest, classes[TARGET], ledger))
    stop_unless_usable(report, len(ledger), out)


def admit(samples: pd.DataFrame, defects: pd.DataFrame, params: ValidateParams) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The manifest (samples with their split) and the ledger (defects, duplicates and classes too small to use)."""
    ledgers = [defects, exact_duplicates(samples, targets=[TARGET])]
    samples = without(samples, ledgers[-1])
    samples["split"] = [
        split_of(
            identity,
            salt=params.split_salt,
            val_fraction=params.val_fraction,
            heldout_fraction=params.heldout_fraction,
        )
        for identity in samples["sample_id"]
    ]
    ledgers.append(small_classes(samples, target=TARGET))
    ledger = pd.concat(ledgers, ignore_index=True).sort_values(["batch", "path"]).reset_index(drop=True)
    return without(samples, ledgers[-1]), ledger


def count_by_batch(manifest: pd.DataFrame, ledger: pd.DataFrame, batches: list[str]) -> dict[str, dict[str, int]]:
    """Each batch's samples used, and quarantined by reason."""
    return {
        batch: {"used": int((manifest["batch"] == batch).sum())}
        | {f"quarantined.{reason}": int(count) for reason, count in _reasons(ledger, batch).items()}
        for batch in batches
    }


def count_by_class(manifest: pd.DataFrame, classes: list[str]) -> dict[str, dict[str, int]]:
    """Each class's samples, by split."""
    counts = manifest.groupby([TARGET, "split"]).size()
    return {name: {split: int(counts.get((name, split), 0)) for split in SPLITS} for name in classes}


def budget(manifest: pd.DataFrame, ledger: pd.DataFrame, limit: float) -> dict[str, Any]:
    fraction = len(ledger) / max(len(manifest) + len(ledger), 1)
    return {"quarantined_fraction": fraction, "limit": limit, "success": fraction <= limit}


def stop_unless_usable(report: dict[str, Any], num_quarantined: int, out: Path) -> None:
    """Raises ValueError where no sample is left, the budget is exceeded, or an expectation is not met."""
    ledger = out / "quarantine.csv"
    if "expectations" not in report:
        raise ValueError(
            f"no usable images at all ({num_quarantined} quarantined): see {ledger}; is there data/raw/<batch>/<class>/?"
        )
    if not report["budget"]["success"]:
        raise ValueError(
            f"{num_quarantined} samples ({report['budget']['quarantined_fraction']:.1%}) are quarantined, expected at most "
            f"{report['budget']['limit']:.1%}: mend what {ledger} names, or raise validate.max_quarantined_fraction"
        )
    for each in report["expectations"]["expectations"]:
        if not each["success"]:
            raise ValueError(
                f"the data does not meet {each['expectation']} {each['column']}: expected {each['expected']}, observed "
                f"{each['observed']} ({each['num_unexpected']} unexpected): see {out / 'validation.json'}"
            )


def _read(scanned: Path, batches: list[str], name: str, read: Callable[[Path], pd.DataFrame]) -> pd.DataFrame:
    tables = []
    for batch in batches:
        path = scanned / batch / name
        if not path.is_file():
            raise ValueError(
                f"{path} is missing, though batch {batch} is listed: run `dvc pull scan validate embed`, then again"
            )
        tables.append(read(path).assign(batch=batch))
    return pd.concat(tables, ignore_index=True)


def _read_defects(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _reasons(ledger: pd.DataFrame, batch: str) -> dict[str, int]:
    counts = ledger.loc[ledger["batch"] == batch, "reason"].value_counts().sort_index()
    return {str(reason): int(count) for reason, count in counts.items()}


def _counts(manifest: pd.DataFrame, classes: list[str], ledger: pd.DataFrame) -> tuple[str, int, str]:
    return f"{len(manifest):,}", len(classes), f"{len(ledger):,}"


if __name__ == "__main__":
    stage.main(run)
