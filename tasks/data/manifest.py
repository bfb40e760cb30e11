"""The manifest: one Parquet file a batch, a row a sample, sorted by path."""

import csv
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

SPLITS = ("train", "val", "heldout")
MISSING = -1  # the index of a label that a sample does not have; cross_entropy leaves it out


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Parquet, without anything that varies between equal tables."""
    table.to_parquet(path, index=False, compression="zstd")


def write_text_table(path: Path, table: pd.DataFrame) -> None:
    """CSV for people, every cell in quotes: names of files hold anything, carriage returns too."""
    table.to_csv(path, index=False, quoting=csv.QUOTE_ALL, lineterminator="\n")


def read_text_table(path: Path) -> pd.DataFrame:
    """What `write_text_table` wrote, all of it text, and nothing taken for a missing value."""
    with path.open(encoding="utf-8", newline="") as file:
        return pd.read_csv(file, dtype=str, keep_default_na=False)


def read_manifest(folder: Path, batches: Sequence[str]) -> pd.DataFrame:
    """The manifests of all `batches`, in their order: columns sample_id, batch, path, split, width, height, and one a
    target. Raises ValueError where a batch's file is missing, so that no stage succeeds on too little."""
    return pd.concat([read_batch(folder, batch) for batch in batches], ignore_index=True)


def read_batch(folder: Path, batch: str) -> pd.DataFrame:
    return read_table(folder / f"{batch}.parquet", batch=batch)


def read_table(path: Path, *, batch: str) -> pd.DataFrame:
    """A table of one batch. Raises ValueError where it is missing, with the command that brings it."""
    if not path.is_file():
        raise ValueError(
            f"{path} is missing, though batch {batch} is listed: run `dvc pull scan validate embed`, then again"
        )
    return pd.read_parquet(path)


def label_indices(labels: pd.Series, classes: Sequence[str]) -> list[int]:
    """The index of each label in `classes`; MISSING where there is none. Raises ValueError for another class."""
    index = {name: position for position, name in enumerate(classes)}
    unknown = sorted(set(labels.dropna()) - set(index))
    if unknown:
        raise ValueError(
            f"the manifest has class {unknown[0]!r}, expected one of {', '.join(classes)}: train the head again"
        )
    return [MISSING if pd.isna(label) else index[label] for label in labels]
