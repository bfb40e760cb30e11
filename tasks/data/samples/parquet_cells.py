"""Read images from a Parquet file: find their column, and return an image's bytes by the number of its row.

The column holds plain bytes or, as Hugging Face datasets writes it, structs with `bytes` and `path`.
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
KEPT_ROW_GROUPS = 2  # in memory, so that rows read in order cost one read a row group
MOST_GROUP_BYTES = 2**30  # of a row group's images; equal rows may take a thousandth of that in the file
_reading = Lock()  # threads that need the same layout or row group read it once
# the errors that pyarrow raises for damaged files
BROKEN = (pa.ArrowException, OSError, ValueError, LookupError, OverflowError, MemoryError)


class UnreadableTableError(ValueError):
    """A Parquet file, or a row of it, cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The column that holds the images, and the number of each row group's first row."""

    column: str
    starts: tuple[int, ...]
    num_rows: int


def read_picture(file: Path, row: int) -> bytes:
    """Return the bytes of the image in a row.

    Raises:
        UnreadableTableError: the row has no image, or cannot be read.
    """
    try:
        stamp = stamp_of(file)
        with _reading:
            layout = layout_of(file, stamp)
            if not 0 <= row < layout.num_rows:
                raise UnreadableTableError(f"{file.name} has no row {row}")
            group = bisect_right(layout.starts, row) - 1
            cells = _image_cells(file, stamp, group)
        if isinstance(cells, str):
            raise UnreadableTableError(cells)
        cell = cells[row - layout.starts[group]].as_py()
    except UnreadableTableError:
        raise
    except BROKEN as error:
        raise UnreadableTableError(one_line(error)) from error
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if content is None:
        raise UnreadableTableError("the row has no image bytes")
    return bytes(content)


@lru_cache(maxsize=16)
def layout_of(file: Path, stamp: tuple[int, int]) -> Layout:
    """Return the layout of a file.

    Args:
        stamp: the file's `stamp_of`, so that the cache does not answer for a changed file.

    Raises:
        UnreadableTableError: there is not exactly one column of images, or the counts of rows are wrong.
    """
    table = open_table(file)
    metadata = table.metadata
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
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    if any(size < 0 for size in sizes) or sum(sizes) != metadata.num_rows:
        raise UnreadableTableError("its counts of rows contradict each other")
    if metadata.num_rows > stamp[1]:
        raise UnreadableTableError(f"it claims {metadata.num_rows} rows in {stamp[1]} bytes: no image is that small")
    return Layout(
        column=names[0],
        starts=tuple(accumulate(sizes[:-1], initial=0)) if sizes else (),
        num_rows=metadata.num_rows,
    )


@lru_cache(maxsize=KEPT_ROW_GROUPS)
def _image_cells(file: Path, stamp: tuple[int, int], group: int) -> pa.ChunkedArray | str:
    """Return the images of a row group, or the reason why they are not read, so that its next row does not try too."""
    name = layout_of(file, stamp).column
    table = open_table(file)
    known = table.metadata.row_group(group)
    parts = [known.column(number) for number in range(known.num_columns)]
    # the size of the column's pages: no cell is larger than that, but equal cells may be stored there once
    in_pages = sum(part.total_uncompressed_size for part in parts if f"{part.path_in_schema}.".startswith(f"{name}."))
    too_many = f"its row group has more than {MOST_GROUP_BYTES} bytes of images: write smaller row groups"
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
    """Return the time of a file's last change (ns) and its size (bytes)."""
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
