"""The pictures of a Parquet file: its layout, and a picture's bytes by the number of its row.

They stand in a column of plain bytes or, as Hugging Face datasets writes them, of a struct with `bytes` and `path`.
"""

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from threading import Lock

import pyarrow as pa
import pyarrow.parquet as pq

NAMES = ("image", "img", "picture", "photo")
ROWS_AT_ONCE = 1024
KEPT_ROW_GROUPS = 2  # in memory, so that rows read in order cost one read
MOST_GROUP_BYTES = 2**30  # of a row group's pictures; pages of equal rows take a thousandth of that in the file
_reading = Lock()  # so that threads which want the same layout or row group read it once
# what a damaged file can make pyarrow raise
BROKEN = (pa.ArrowException, OSError, ValueError, LookupError, OverflowError, MemoryError)


class UnreadableTableError(ValueError):
    """A Parquet file, or a row of it, that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the pictures are: their column, and the first row of each row group."""

    column: str
    starts: tuple[int, ...]
    num_rows: int


def read_picture(file: Path, row: int) -> bytes:
    """The bytes of the picture in a row. Raises UnreadableTableError where there are none, or they cannot be read."""
    try:
        stamp = stamp_of(file)
        with _reading:
            layout = layout_of(file, stamp)
            if not 0 <= row < layout.num_rows:
                raise UnreadableTableError(f"{file.name} has no row {row}")
            group = bisect_right(layout.starts, row) - 1
            found = _pictures(file, stamp, group)
        if isinstance(found, str):
            raise UnreadableTableError(found)
        cell = found[row - layout.starts[group]].as_py()
    except UnreadableTableError:
        raise
    except BROKEN as error:
        raise UnreadableTableError(one_line(error)) from error
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if content is None:
        raise UnreadableTableError("the row has no picture's bytes")
    return bytes(content)


@lru_cache(maxsize=16)
def layout_of(file: Path, stamp: tuple[int, int]) -> Layout:
    """Raises UnreadableTableError where there is not exactly one column of pictures; `stamp` tells versions apart."""
    table = open_table(file)
    metadata = table.metadata
    schema = table.schema_arrow
    twice = sorted(name for name, count in Counter(schema.names).items() if count > 1)
    if twice:
        raise UnreadableTableError(f"column {twice[0]} stands there twice")
    names = [field.name for field in schema if _holds_pictures(field.type)]
    if len(names) > 1:
        names = [name for name in names if name.lower() in NAMES]
    if len(names) != 1:
        found = ", ".join(f"{field.name} ({field.type})" for field in schema)[:200]
        raise UnreadableTableError(
            f"columns {found}; expected one of pictures (bytes, or a struct with bytes), or one named image"
        )
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    if any(size < 0 for size in sizes) or sum(sizes) != metadata.num_rows:
        raise UnreadableTableError("the counts of its rows contradict each other")
    if metadata.num_rows > stamp[1]:
        raise UnreadableTableError(f"it claims {metadata.num_rows} rows in {stamp[1]} bytes: no picture is so small")
    return Layout(
        column=names[0],
        starts=tuple(accumulate(sizes[:-1], initial=0)) if sizes else (),
        num_rows=metadata.num_rows,
    )


@lru_cache(maxsize=KEPT_ROW_GROUPS)
def _pictures(file: Path, stamp: tuple[int, int], group: int) -> pa.ChunkedArray | str:
    """The cells of a row group, or why they are not read: the next row of it does not try again."""
    name = layout_of(file, stamp).column
    table = open_table(file)
    known = table.metadata.row_group(group)
    parts = [known.column(number) for number in range(known.num_columns)]
    # what all cells take in pages: a cell takes no more, but cells that are equal may lie there once
    in_pages = sum(part.total_uncompressed_size for part in parts if f"{part.path_in_schema}.".startswith(f"{name}."))
    too_many = f"its group of rows has more than {MOST_GROUP_BYTES} bytes of pictures: make smaller groups"
    if in_pages > MOST_GROUP_BYTES:
        return too_many
    rows = min(ROWS_AT_ONCE, MOST_GROUP_BYTES // max(in_pages, 1))
    chunks, num_bytes = [], 0
    for batch in table.iter_batches(rows, row_groups=[group], columns=[name], use_threads=False):
        chunks.append(batch.column(0))
        num_bytes += batch.nbytes
        if num_bytes > MOST_GROUP_BYTES:
            return too_many
    return pa.chunked_array(chunks)


def open_table(file: Path) -> pq.ParquetFile:
    return pq.ParquetFile(file)


def stamp_of(file: Path) -> tuple[int, int]:
    facts = file.stat()
    return facts.st_mtime_ns, facts.st_size


def _holds_pictures(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" and _is_binary(kind.field(i).type) for i in range(kind.num_fields))
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
