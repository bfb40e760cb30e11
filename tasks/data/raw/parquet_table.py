"""A Parquet file with a column of pictures in; an entry a row out, without reading a picture.

Every other column of single values is a target, or one of group, domain and split.
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
    """Whether the file is called and begins as a Parquet file does."""
    try:
        if not path.name.lower().endswith(ENDING) or not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def find_rows(file: Path, *, prefix: str) -> Iterator[Entry]:
    """An entry for each row of the file, readable or not; `prefix` stands before its number."""
    place = prefix.removesuffix("/") or file.name
    try:
        layout = layout_of(file, stamp_of(file))
        schema = pq.read_schema(file)
        names = _class_names(schema)
        columns = [field.name for field in schema if field.name != layout.column and _is_single(field.type)]
    except BROKEN as error:
        yield defect(place, "unreadable_table", one_line(error))
        return
    if not layout.num_rows:
        yield defect(place, "unreadable_table", "no row in it")
        return
    digits = len(str(max(layout.num_rows - 1, 0)))
    for group, (start, end) in enumerate(zip(layout.starts, (*layout.starts[1:], layout.num_rows), strict=True)):
        try:
            rows, problem = _cells(file, group, columns), ""
        except BROKEN as error:
            rows, problem = [], f"its group of rows cannot be read: {one_line(error)}"
        for number in range(start, end):
            path = f"{prefix}{number:0{digits}d}"
            try:
                if problem:
                    raise ValueError(problem)
                cells = {name: _cell(cells[number - start], names.get(name)) for name, cells in rows}
                yield Entry(path=path, said=said_in_row(cells))
            except ValueError as error:
                yield defect(path, "unreadable_row", one_line(error))


def _cells(file: Path, group: int, columns: list[str]) -> list[tuple[str, list[Any]]]:
    """By column: its cells in a group of rows."""
    if not columns:
        return []
    table = open_table(file).read_row_group(group, columns=columns, use_threads=False)
    return [(name, cells_of(table.column(name))) for name in columns]


def cells_of(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Text comes as bytes, so that one cell that is not UTF-8 spoils one row."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    cells: list[Any] = (column.cast(pa.large_binary()) if is_text(column.type) else column).to_pylist()
    return cells


def is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_single(kind: pa.DataType) -> bool:
    """Whether a column of this type holds one word or number a row."""
    if pa.types.is_dictionary(kind):
        return _is_single(kind.value_type)
    return bool(is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_floating(kind))


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """By column: the names of its numbered classes, where Hugging Face datasets noted them in the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {
            name: feature["names"]
            for name, feature in features.items()
            if isinstance(feature, dict) and "names" in feature
        }
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}
    return {
        name: names
        for name, names in found.items()
        if isinstance(names, list) and all(isinstance(each, str) for each in names)
    }


def _cell(cell: Any, names: list[str] | None) -> str | None:
    """A cell as text; the number of a named class as its name, and none for a number that stands for no class."""
    if cell is None or cell != cell:  # NaN
        return None
    if isinstance(cell, bytes):
        return cell.decode()
    if names is not None and isinstance(cell, int):
        return names[cell] if 0 <= cell < len(names) else None
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
