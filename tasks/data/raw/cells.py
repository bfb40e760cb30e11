"""Read the single values of a Parquet file, row by row, within bounds: a few kilobytes may stand for gigabytes."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.data.raw.entries import targets_among, text
from tasks.data.samples.parquet_cells import BROKEN, ROWS_AT_ONCE, UnreadableTableError, one_line

MOST_COLUMNS = 1000  # of a table of labels
FEWEST_BYTES = 2**26  # of single values that a file of any size may hold
BYTES_A_BYTE = 100  # of the file: more is no table of labels, whatever compressed it
MOST_A_ROW = 100  # values, on average, of a column of lists: one with more holds vectors, and no labels
CELL_BYTES = 32  # that a cell counts beside its text: a number too takes room in memory


def check_number(columns: Sequence[str]) -> None:
    """Raise UnreadableTableError if a table has more columns than one of labels can have."""
    if len(columns) > MOST_COLUMNS:
        raise UnreadableTableError(f"{len(columns)} columns, expected at most {MOST_COLUMNS}")


class Cells:
    """The cells of some columns of a Parquet file.

    A cell that occurs often is in memory once, as it is in the file.
    """

    def __init__(self, file: Path, columns: Sequence[str]) -> None:
        plain = pq.ParquetFile(file)
        self.columns = list(columns)
        groups = range(plain.metadata.num_row_groups)
        delta = {chunk.path_in_schema for group in groups for chunk in _chunks(plain, group) if _is_delta(chunk)}
        types = {name: plain.schema_arrow.field(name).type for name in columns}
        text = [name for name, kind in types.items() if is_text(kind.value_type if _is_list(kind) else kind)]
        paths = {chunk.path_in_schema for group in groups for chunk in _chunks(plain, group) if _is_of(chunk, text)}
        self.table = pq.ParquetFile(file, read_dictionary=sorted(paths - delta))
        self.most = self.left = FEWEST_BYTES + BYTES_A_BYTE * file.stat().st_size

    def in_group(self, group: int) -> Iterator[dict[str, Any]]:
        """Return an iterator of the rows of a row group: each cell by its column, text as bytes.

        It has no end: behind a row that cannot be read, and behind the last one, `next` raises UnreadableTableError.
        """
        return _Rows(self._rows(group))

    def _rows(self, group: int) -> Iterator[dict[str, Any]]:
        known = self.table.metadata.row_group(group)
        if not self.columns:
            yield from ({} for _ in range(known.num_rows))
            return
        chunks = [chunk for chunk in _chunks(self.table, group) if _is_of(chunk, self.columns)]
        in_pages = sum(chunk.total_uncompressed_size for chunk in chunks)
        in_lists = sum(chunk.num_values for chunk in chunks if chunk.path_in_schema not in self.columns)
        if in_pages > self.most or CELL_BYTES * in_lists > self.left:  # one list of a small file may have billions
            raise UnreadableTableError(self._too_much())
        rows_at_once = ROWS_AT_ONCE
        if any(map(_is_delta, chunks)):  # no cell is larger than the pages
            rows_at_once = max(min(rows_at_once, FEWEST_BYTES // max(in_pages, 1)), 1)
        for rows in self.table.iter_batches(rows_at_once, row_groups=[group], columns=self.columns, use_threads=False):
            columns = [self._cells(column) for column in rows.columns]
            for cells in zip(*columns, strict=True):
                yield dict(zip(rows.schema.names, cells, strict=True))

    def _cells(self, column: pa.Array) -> list[Any]:
        if _is_list(column.type):
            parts, lengths = iter(self._cells(column.flatten())), pc.list_value_length(column).to_pylist()
            return [None if length is None else list(islice(parts, length)) for length in lengths]
        if pa.types.is_dictionary(column.type) and is_text(column.type):
            values = _as_bytes(column.dictionary)
            known: dict[int | None, Any] = {None: None}
            cells = []
            for code in column.indices.to_pylist():
                if code not in known:
                    known[code] = values[code].as_py()
                cells.append(known[code])
        else:
            if pa.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            cells = (_as_bytes(column) if is_text(column.type) else column).to_pylist()
        self.left -= CELL_BYTES * len(cells) + sum(len(cell) for cell in cells if isinstance(cell, bytes))
        if self.left < 0:
            raise UnreadableTableError(self._too_much())
        return cells

    def _too_much(self) -> str:
        return f"its columns, other than the images, hold more than {self.most} bytes: no table of labels is that large"


def _chunks(table: pq.ParquetFile, group: int) -> list[pq.ColumnChunkMetaData]:
    known = table.metadata.row_group(group)
    return [known.column(number) for number in range(known.num_columns)]


def _is_of(chunk: pq.ColumnChunkMetaData, columns: Sequence[str]) -> bool:
    """Return whether a chunk belongs to one of the columns; that of a list stands below its column."""
    path = chunk.path_in_schema
    return path in columns or any(path.startswith(f"{name}.") for name in columns)


def _is_delta(chunk: pq.ColumnChunkMetaData) -> bool:
    """Return whether cells are written as differences to others; pyarrow makes no dictionary of these."""
    return any(encoding.startswith("DELTA") for encoding in chunk.encodings)


class _Rows:
    """Rows that raise the same error again and again, once one cannot be read."""

    def __init__(self, rows: Iterator[dict[str, Any]]) -> None:
        self.rows = rows
        self.problem = ""

    def __iter__(self) -> "_Rows":
        return self

    def __next__(self) -> dict[str, Any]:
        if not self.problem:
            try:
                return next(self.rows)
            except StopIteration:
                self.problem = "its row group ends before the row"
            except BROKEN as error:
                self.problem = f"its row group cannot be read: {one_line(error)}"
        raise UnreadableTableError(self.problem)


def cell_text(cell: Any, names: list[str] | None = None) -> str | None:
    """Return a cell as text. The number of a named class becomes its name; the number of no class becomes None.

    A list becomes JSON, each of its texts as `entries.text` returns it, in the order of the list.

    Raises:
        ValueError: the cell is not UTF-8.
    """
    if isinstance(cell, list):
        return json.dumps([_part(each, names) for each in cell], ensure_ascii=False, separators=(",", ":"))
    if cell is None or cell != cell:  # NaN
        return None
    if isinstance(cell, bytes):
        return cell.decode()
    if names is not None and isinstance(cell, int):
        return names[cell] if 0 <= cell < len(names) else None
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def _part(cell: Any, names: list[str] | None) -> str | int | float | None:
    if isinstance(cell, float | bool) or (isinstance(cell, int) and names is None):
        return int(cell) if isinstance(cell, float) and cell.is_integer() else cell
    part = cell_text(cell, names)
    return None if part is None else text(part)


def is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_single(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds one word or number a row."""
    if pa.types.is_dictionary(kind):
        return is_single(kind.value_type)
    return bool(is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_floating(kind))


def is_nested(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds several values a row."""
    return bool(pa.types.is_nested(kind))


def lists_of_labels(file: Path, columns: Sequence[str]) -> set[str]:
    """Return those of the columns of a Parquet file that hold lists of texts or numbers, and may hold labels."""
    table = pq.ParquetFile(file)
    groups = range(table.metadata.num_row_groups)
    most = MOST_A_ROW * max(table.metadata.num_rows, 1)
    found = set()
    for field in table.schema_arrow:
        if field.name in columns and targets_among([field.name]) and _is_list(field.type):
            chunks = (chunk for group in groups for chunk in _chunks(table, group) if _is_of(chunk, [field.name]))
            found |= {field.name} if sum(chunk.num_values for chunk in chunks) <= most else set()
    return found


def is_label(name: str, cell: Any) -> bool:
    """Return whether a value in JSON may be a label, or another fact of a sample that a column of this name gives."""
    if isinstance(cell, list):
        return bool(targets_among([name])) and not any(isinstance(each, list | dict) for each in cell)
    return not isinstance(cell, dict)


def _is_list(kind: pa.DataType) -> bool:
    is_one = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_one) and is_single(kind.value_type)


def _as_bytes(column: pa.Array) -> pa.Array:
    """Return a column of text as bytes, so that a cell that is not UTF-8 affects its own row alone."""
    return column.cast(pa.binary() if pa.types.is_string(column.type) else pa.large_binary())
