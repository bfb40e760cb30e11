"""Read the tables of audit: which rows of a manifest leave training, and which held-out rows are leaked."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data.manifest.tables import read_text_table

LEAKS = "leaks.csv"  # a row a sample of train or val that leaves training
LEAKED = "leaked.csv"  # a row a held-out sample with a twin in train or val
COLUMNS = [
    "batch", "path", "sample_id", "split", "twin_batch", "twin_path", "twin_sample_id", "cosine", "hash_distance",
]  # fmt: skip


def leaves_training(manifest: pd.DataFrame, audit: Path) -> NDArray[np.bool_]:
    """Return (n,) whether a sample of train or val is a near-duplicate of a held-out one.

    Raises:
        ValueError: the table is missing, or belongs to another manifest.
    """
    return _named(manifest, audit / LEAKS)


def is_leaked(manifest: pd.DataFrame, audit: Path) -> NDArray[np.bool_]:
    """Return (n,) whether a held-out sample has a near-duplicate in train or val. Raises as `leaves_training` does."""
    return _named(manifest, audit / LEAKED)


def read_leaks(path: Path) -> pd.DataFrame:
    """Return a table of COLUMNS. Raises ValueError where it is missing."""
    try:
        return read_text_table(path)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: run audit, or `dvc pull audit`") from None


def _named(manifest: pd.DataFrame, path: Path) -> NDArray[np.bool_]:
    named = read_leaks(path)["sample_id"]
    is_named: NDArray[np.bool_] = manifest["sample_id"].isin(named).to_numpy()
    if (num_found := is_named.sum()) != len(named):
        raise ValueError(f"{path} names {len(named)} samples, of which the manifest has {num_found}: run audit again")
    return is_named
