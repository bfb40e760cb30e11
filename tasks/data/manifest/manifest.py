"""The manifest: one Parquet file a batch, a row a sample, sorted by path."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tasks.data.manifest.tables import read_table

SPLITS = ("train", "val", "heldout")


def read_manifest(folder: Path, batches: Sequence[str]) -> pd.DataFrame:
    """The manifests of all `batches`, in their order: columns sample_id, batch, path, split, width, height, and one a
    target. Raises ValueError where a batch's file is missing, so that no stage succeeds on too little."""
    return pd.concat([read_batch(folder, batch) for batch in batches], ignore_index=True)


def read_batch(folder: Path, batch: str) -> pd.DataFrame:
    return read_table(folder / f"{batch}.parquet", batch=batch)


def version_of(rows: pd.DataFrame, targets: list[str]) -> str:
    """SHA-256 of which samples are held out and what they are, in whatever order."""
    columns = rows[["sample_id", *targets]].astype(object)
    lines = sorted(json.dumps(row) for row in columns.where(columns.notna(), None).to_numpy().tolist())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
