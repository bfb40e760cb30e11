"""Read the manifest: one Parquet file a batch, one row a sample, sorted by path."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tasks.data.manifest.tables import read_table

SPLITS = ("train", "val", "heldout")
TRAINING = ("train", "val")  # the splits that weights and choices come from
POOL = "pool"  # the split of a sample without a label: nothing learns from it, and it judges nothing


def read_manifest(folder: Path, batches: Sequence[str]) -> pd.DataFrame:
    """Return the manifests of all `batches`, in their order, as one table.

    Columns: sample_id, batch, path, split (one of SPLITS, or POOL), width, height, and one a target.

    Raises:
        ValueError: the file of a batch is missing, so that no stage succeeds on a part of the data.
    """
    return pd.concat([read_batch(folder, batch) for batch in batches], ignore_index=True)


def read_batch(folder: Path, batch: str) -> pd.DataFrame:
    return read_table(folder / f"{batch}.parquet", batch=batch)


def used_of(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of samples that are learned from or judge: all but the pool."""
    is_pool = manifest["split"] == POOL
    return manifest[~is_pool] if is_pool.any() else manifest


def domains_of(manifest: pd.DataFrame) -> "pd.Series[str]":
    """Return the domain (n,) of each sample: the cell in the column `domain`, or the batch where it is empty."""
    batches = manifest["batch"].rename("domain")
    return manifest["domain"].fillna(batches).astype("str") if "domain" in manifest else batches


def version_of(rows: pd.DataFrame, targets: list[str]) -> str:
    """Return the SHA-256 (hex) of the ids and labels of held-out samples, whatever the order of the rows."""
    columns = rows[["sample_id", *targets]].astype(object)
    lines = sorted(json.dumps(row) for row in columns.where(columns.notna(), None).to_numpy().tolist())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
