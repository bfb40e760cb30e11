"""Read cells of a Parquet file by the number of their row: of any columns, or of the column of images.

A column of images holds plain bytes or, as Hugging Face datasets writes it, structs with `bytes` and `path`.
"""

import os
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.data.samples.remote import RemoteFile

NAMES = ("image", "img", "picture", "photo")
ROWS_AT_ONCE = 1024
KEPT_ROW_GROUPS = 2  # in memory, so that rows read in order cost one read a row group
MOST_GROUP_BYTES = 2**30  # of the cells of a row group; equal rows may take a thousandth of that in the file
_reading = Lock()  # threads that need the same layout or row group read it once
# the errors that pyarrow raises for damaged files
BROKEN = (pa.ArrowException, OSError, ValueError, LookupError, OverflowError, MemoryError)


class UnreadableTableError(ValueError):
    """A Parquet file, or a row of it, cannot be read."""


@dataclass(frozen=True, kw_only=True)
class RowGroups:
    """The number of each row group's first row, and of all rows."""

    starts: tuple[int, ...]
    num_rows: int

    def ranges(self) -> list[range]:
        """Return the numbers of the rows of each group."""
        return [range(*ends) for ends in zip(self.starts, (*self.starts[1:], self.num_rows), strict=True)]


@dataclass(frozen=True, kw_only=True)
class Layout(RowGroups):
    """The row groups, and the column that holds the images."""

    column: str


def read_picture(file: Path | RemoteFile, row: int) -> bytes:
    """Return the bytes of the image in a row.

    Raises:
        UnreadableTableError: the row has no image, or cannot be read.
    """
    [cell] = read_cells(file, None, row, what="images")
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if content is None:
        raise UnreadableTableError("the row has no image bytes")
    return bytes(content)


def read_cells(file: Path | RemoteFile, columns: tuple[str, ...] | None, row: int, *, what: str) -> list[Any]:
    """Return the cells of a row in some columns; None takes the column of images. `what` names them in messages.

    Raises:
        UnreadableTableError: the file has no such row, or a cell of it cannot be read.
    """
    try:
        stamp = stamp_of(file)
        with _reading:
            groups: RowGroups
            if columns is None:
                groups = layout = layout_of(file, stamp)
                columns = (layout.column,)
            else:
                groups = row_groups(file, stamp)
            if not 0 <= row < groups.num_rows:
                raise UnreadableTableError(f"{file.name} has no row {row}")
            group = bisect_right(groups.starts, row) - 1
            cells = _cells_of_group(file, stamp, columns, group, what)
        if isinstance(cells, str):
            raise UnreadableTableError(cells)
        return [column[row - groups.starts[group]].as_py() for column in cells]
    except UnreadableTableError:
        raise
    except BROKEN as error:
        raise UnreadableTableError(one_line(error)) from error


@lru_cache(maxsize=16)
def row_groups(file: Path | RemoteFile, stamp: tuple[int, int]) -> RowGroups:
    """Return the row groups of a file in the state of `stamp`. Raises UnreadableTableError for counts that lie."""
    return _row_groups(open_table(file))


def _row_groups(table: pq.ParquetFile) -> RowGroups:
    metadata = table.metadata
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    if any(size < 0 for size in sizes) or sum(sizes) != metadata.num_rows:
        raise UnreadableTableError("its counts of rows contradict each other")
    return RowGroups(starts=tuple(accumulate(sizes[:-1], initial=0)) if sizes else (), num_rows=metadata.num_rows)


@lru_cache(maxsize=16)
def layout_of(file: Path | RemoteFile, stamp: tuple[int, int]) -> Layout:
    """Return the layout of a file.

    Args:
        stamp: the file's `stamp_of`, so that the cache does not answer for a changed file.

    Raises:
        UnreadableTableError: there is not exactly one column of images, or the counts of rows are wrong.
    """
    table = open_table(file)
    schema = table.schema_arrow
    twice = sorted(name for name, count in Counter(schema.names).items() if count > 1)
    if twice:
        raise UnreadableTableError(f"column {twice[0]} appears twice")
    names = [field.name for field in schema if _holds_images(field.type)]
    if len(names) > 1:
        names = [name for name in names if name.lower() in NAMES]
    if len(names) != 1:
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)[:200]
        raise UnreadableTableError(
            f"columns {columns}; expected a column of images (bytes, or a struct with bytes), "
            "named image if there are several"
        )
    groups = _row_groups(table)
    if groups.num_rows > stamp[1]:
        raise UnreadableTableError(f"it claims {groups.num_rows} rows in {stamp[1]} bytes: no image is that small")
    return Layout(column=names[0], **vars(groups))


@lru_cache(maxsize=KEPT_ROW_GROUPS)
def _cells_of_group(
    file: Path | RemoteFile, stamp: tuple[int, int], columns: tuple[str, ...], group: int, what: str
) -> list[pa.ChunkedArray] | str:
    """Return the cached result of `cells_of_group`, so that an unreadable group is tried once, and not for each row."""
    return cells_of_group(file, columns, group, what=what)


def cells_of_group(
    file: Path | RemoteFile, columns: tuple[str, ...], group: int, *, what: str, most_bytes: int = MOST_GROUP_BYTES
) -> list[pa.ChunkedArray] | str:
    """Return the columns of a row group, or the reason why they are not read.

    Args:
        what: the name of the cells in messages.
        most_bytes: the limit of their bytes, if that is less than MOST_GROUP_BYTES.
    """
    table = open_table(file)
    known = table.metadata.row_group(group)
    parts = [known.column(number) for number in range(known.num_columns)]
    starts = tuple(f"{name}." for name in columns)
    # the size of the columns' pages: no cell is larger than that, but equal cells may be stored there once
    in_pages = sum(part.total_uncompressed_size for part in parts if f"{part.path_in_schema}.".startswith(starts))
    most = min(most_bytes, MOST_GROUP_BYTES)
    too_many = f"its row group has more than {most} bytes of {what}: write smaller row groups"
    if in_pages > most:
        return too_many
    rows = min(ROWS_AT_ONCE, most // max(in_pages, 1))
    batches, num_bytes = [], 0
    for batch in table.iter_batches(rows, row_groups=[group], columns=list(columns), use_threads=False):
        batches.append(batch)
        num_bytes += batch.nbytes
        if num_bytes > most:
            return too_many
    return [pa.chunked_array([batch.column(name) for batch in batches]) for name in columns]


def open_table(file: Path | RemoteFile) -> pq.ParquetFile:
    return _open_remote(file, os.getpid()) if isinstance(file, RemoteFile) else pq.ParquetFile(file)


@lru_cache(maxsize=4)
def _open_remote(file: RemoteFile, process: int) -> pq.ParquetFile:
    """Return a table whose footer is read once; a connection does not outlive a fork."""
    return pq.ParquetFile(file.open())


def stamp_of(file: Path | RemoteFile) -> tuple[int, int]:
    """Return the time of a file's last change (ns) and its size (bytes); a remote one is named by its content."""
    if isinstance(file, RemoteFile):
        return 0, file.size
    status = file.stat()
    return status.st_mtime_ns, status.st_size


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" and _is_binary(kind.field(i).type) for i in range(kind.num_fields))
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
