"""List the entries of a batch of any layout: labels.csv, Parquet files or class folders."""

from collections.abc import Iterator
from pathlib import Path

from tasks.data.raw import class_folders, label_table, parquet_table
from tasks.data.raw.entries import Entry, defect, file_entry, walk


def find_entries(batch: Path) -> list[Entry]:
    """Return an entry for everything in a batch, which is a folder or a single Parquet file. Nothing is skipped.

    With a `labels.csv` at the top, its rows are the samples. Otherwise the rows of every Parquet file are samples,
    wherever the file lies, and every other file belongs to its class folder.
    """
    return list(_find(batch))


def _find(batch: Path) -> Iterator[Entry]:
    if batch.is_file():
        if parquet_table.is_parquet(batch):
            yield from parquet_table.find_rows(batch, prefix="")
        else:
            yield defect(batch.name, "unreadable_table", "expected a folder, or a Parquet file")
        return
    files, closed = walk(batch)
    for folder in closed:
        yield defect(folder, "unreadable", "no permission to read the folder")
    if label_table.NAME in files:
        yield from label_table.find_rows(batch, files)
        return
    tables = [path for path in files if _is_table(batch, path)]
    for path in tables:
        yield from parquet_table.find_rows(batch / path, prefix=f"{path}/")
    yield from class_folders.find_files(batch, sorted(set(files) - set(tables)))
    yield from class_folders.find_empty_folders(batch, [*files, *closed])


def _is_table(batch: Path, path: str) -> bool:
    """Return whether the file is a Parquet table, and neither hidden nor a link that leaves the batch."""
    has_ending = path.lower().endswith(parquet_table.ENDING)
    return (
        has_ending and not file_entry(batch, path, {}, is_walked=True).reason and parquet_table.is_parquet(batch / path)
    )
