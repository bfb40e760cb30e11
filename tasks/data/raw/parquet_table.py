"""Find the entries of a Parquet file with a column of images: one entry a row, without reading an image.

Every other column of single values is a target, or is group, domain or split.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.data.raw.entries import Entry, defect, said_in_row
from tasks.data.samples.parquet_cells import BROKEN, layout_of, one_line, open_table, stamp_of

MAGIC = b"PAR1"
ENDING = ".parquet"


def is_parquet(path: Path) -> bool:
    """Return whether the file has the name and the first bytes of a Parquet file."""
    try:
        if not path.name.lower().endswith(ENDING) or not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def find_rows(file: Path, *, prefix: str) -> Iterator[Entry]:
    """Yield an entry for each row of the file, readable or not; its path is `prefix` and the row's number."""
    table_path = prefix.removesuffix("/") or file.name
    try:
        layout = layout_of(file, stamp_of(file))
        schema = pq.read_schema(file)
        names = _class_names(schema)
        columns = [field.name for field in schema if field.name != layout.column and _is_single(field.type)]
    except BROKEN as error:
        yield defect(table_path, "unreadable_table", one_line(error))
        return
    if not layout.num_rows:
        yield defect(table_path, "unreadable_table", "the table has no rows")
        return
    digits = len(str(max(layout.num_rows - 1, 0)))
    for group, (start, end) in enumerate(zip(layout.starts, (*layout.starts[1:], layout.num_rows), strict=True)):
        try:
            cells_by_column, problem = _cells(file, group, columns), ""
        except BROKEN as error:
            cells_by_column, problem = [], f"its row group cannot be read: {one_line(error)}"
        for number in range(start, end):
            path = f"{prefix}{number:0{digits}d}"
            try:
                if problem:
                    raise ValueError(problem)
                row = {name: _cell(cells[number - start], names.get(name)) for name, cells in cells_by_column}
                yield Entry(path=path, said=said_in_row(row))
            except ValueError as error:
                yield defect(path, "unreadable_row", one_line(error))


def _cells(file: Path, group: int, columns: list[str]) -> list[tuple[str, list[Any]]]:
    """Return the name of each column with its cells in a row group."""
    if not columns:
        return []
    table = open_table(file).read_row_group(group, columns=columns, use_threads=False)
    return [(name, cells_of(table.column(name))) for name in columns]


def cells_of(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return the cells of a column; text as bytes, so that a cell that is not UTF-8 affects its own row alone."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    cells: list[Any] = (column.cast(pa.large_binary()) if is_text(column.type) else column).to_pylist()
    return cells


def is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_single(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds one word or number a row."""
    if pa.types.is_dictionary(kind):
        return _is_single(kind.value_type)
    return bool(is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_floating(kind))


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of numbered classes by column, where Hugging Face datasets wrote them into the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names_by_column = {
            name: feature["names"]
            for name, feature in features.items()
            if isinstance(feature, dict) and "names" in feature
        }
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}
    return {
        column: names
        for column, names in names_by_column.items()
        if isinstance(names, list) and all(isinstance(name, str) for name in names)
    }


def _cell(cell: Any, names: list[str] | None) -> str | None:
    """Return a cell as text. The number of a named class becomes its name; the number of no class becomes None."""
    if cell is None or cell != cell:  # NaN
        return None
    if isinstance(cell, bytes):
        return cell.decode()
    if names is not None and isinstance(cell, int):
        return names[cell] if 0 <= cell < len(names) else None
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
