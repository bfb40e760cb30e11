"""Scanned batches as tables, and `validate` with limits that suit a few made-up samples."""

import json

import pandas as pd
import yaml

from tasks.data.admission.options import ValidateOptions
from tasks.data.manifest.tables import write_table
from tasks.stage.params import ScanParams, checked
from tasks.training.alignment.options import AdaptOptions
from tasks.validate import run

SCAN = ScanParams(
    min_image_size=8, max_image_pixels=10**6, max_file_bytes=10**6, max_decode_seconds=5.0,
    text_columns=None, encoding=None, min_characters=1, max_characters=1000,
)  # fmt: skip
LIMITS = {
    "min_samples": 10, "min_samples_per_batch": 1, "min_classes": 2,
    "min_class_fraction": 0.0, "max_class_fraction": 1.0,
    "max_missing_labels": 0.5, "max_label_drift": 0.5, "max_aspect_ratio": 20.0, "max_markup_fraction": 0.1,
}  # fmt: skip


def params(*, budget=None, limits=None, severity="error", **changes):
    settings = {
        "targets": None,
        "classes": {},
        "merge": {},
        "min_samples_per_class": 3,
        "split_salt": "graftline",
        "val_fraction": 0.25,
        "heldout_fraction": 0.25,
        "max_quarantined": {"overall": 0.5, "batch": 1.0, "class": 1.0} | (budget or {}),
        "drift_significance": 0.01,
        "expectations": {
            name: {"limit": limit, "severity": severity} for name, limit in (LIMITS | (limits or {})).items()
        },
    }
    return checked(ValidateOptions, settings | changes)


def defects(*paths, label=None):
    said = "{}" if label is None else json.dumps({"label": label})
    columns = {"path": list(paths), "sample_id": "", "reason": "empty_file", "detail": "the file has no bytes"}
    return pd.DataFrame(columns | {"said": said}, dtype="str")


def landing(folder):
    """Return a function that writes what scan gives for a batch, and lists the batch."""
    order = []

    def write(batch, table, found=None):
        scanned = folder / "scanned" / batch
        scanned.mkdir(parents=True, exist_ok=True)
        write_table(scanned / "samples.parquet", table.drop(columns="batch"))
        write_table(scanned / "defects.parquet", defects() if found is None else found)
        order.extend([] if batch in order else [batch])
        (folder / "batches.yaml").write_text(yaml.safe_dump({"batches": order}), "utf-8")
        register(folder, {}) if not (folder / "classes.json").exists() else None

    return write


def register(folder, classes, version=0):
    (folder / "classes.json").write_text(json.dumps({"version": version, "classes": classes}), "utf-8")


def validating(folder):
    """Return a function that runs validate, and returns the folder it wrote."""

    def go(*, modality="images", adapt_to=(), **changes):
        out = folder / "validated"
        run(
            scanned=folder / "scanned",
            batches=folder / "batches.yaml",
            registry=folder / "classes.json",
            corrections=folder / "corrections.csv",
            out=out,
            validate=params(**changes),
            scan=SCAN,
            adapt=AdaptOptions(
                targets=list(adapt_to), method="auto", align="coral", weights="classifier", statistics="shared",
                min_unlabelled=50, unlike=None,
            ),
            modality=modality,
        )  # fmt: skip
        return out

    return go
