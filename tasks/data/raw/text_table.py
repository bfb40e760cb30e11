"""Find the entries of a table of texts: one a row, with its labels. CSV, TSV, JSON Lines and Parquet.

The columns of the text are those of `scan.text_columns`, or the one with a usual name. Every other column is as in a
table of labels. No cell of a text is taken for a number or for missing: `NA`, `null` and `1.0` are texts.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tasks.data.raw import parquet_table
from tasks.data.raw.cells import MOST_COLUMNS, cell_text, is_label, is_text
from tasks.data.raw.entries import NOT_A_SAMPLE, Entry, column, defect, readable, said_in_row, targets_among
from tasks.data.raw.options import TextTables
from tasks.data.raw.parquet_table import digits_of, label_rows, list_columns
from tasks.data.raw.usual_names import TEXT_TABLE_ENDINGS, has_ending
from tasks.data.samples.parquet_cells import BROKEN, RowGroups, UnreadableTableError, one_line, row_groups, stamp_of
from tasks.data.samples.text_cells import place_of_rows
from tasks.data.samples.text_encoding import UTF_8, encoding_of, mark_of
from tasks.data.samples.text_tables import CsvTable, TextTable, open_text_table

logger = logging.getLogger("graftline")

ENDINGS = TEXT_TABLE_ENDINGS
USUAL_COLUMNS = ("text", "sentence", "content", "body", "message")
LONGEST_PLACE = 1000  # bytes of a path that name the columns
LONGEST_NAME = 30  # characters of a column that a message shows: where the header is missing, a name is a text
ROWS_A_BYTE = 8  # of a Parquet file: labels may repeat, texts hardly do


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The columns of a table, called as in the file, the number of its rows, and its encoding."""

    columns: list[str]
    num_rows: int
    encoding: str


class RefusedTableError(ValueError):
    """The error of a table that would lose samples unless a person mends it, or sets how to read it."""


def is_table(path: Path) -> bool:
    """Return whether a file is called like a table of texts."""
    return has_ending(path.name, ENDINGS)


def has_texts(table: Path, options: TextTables) -> bool:
    """Return whether a table has the columns of a text."""
    try:
        return bool(columns_of_text(shape_of(table, options).columns, options))
    except (RefusedTableError, *BROKEN):
        return False


def shape_of(file: Path, options: TextTables) -> Shape:
    """Return the shape of a table. Raises UnreadableTableError where it cannot be read."""
    try:
        if is_parquet(file):
            groups = _groups(file)
            return Shape(columns=_columns_of_parquet(file), num_rows=groups.num_rows, encoding=UTF_8)
        if not file.stat().st_size:
            raise UnreadableTableError("the file has no bytes")
        table, encoding = open_table(file, options)
        return Shape(columns=table.columns, num_rows=len(table), encoding=encoding)
    except BROKEN as error:
        raise UnreadableTableError(one_line(error)) from error


def find_rows(file: Path, *, prefix: str, options: TextTables) -> Iterator[Entry]:
    """Yield an entry for each row of a table, readable or not; its path is `prefix`, the columns and the row's number.

    Raises:
        RefusedTableError: the table cannot be read as a whole, or has no columns of a text.
    """
    table_path = prefix.removesuffix("/") or file.name
    try:
        if is_parquet(file):
            yield from _parquet_rows(file, table_path=table_path, prefix=prefix, options=options)
        elif file.stat().st_size:
            yield from _text_rows(file, table_path=table_path, prefix=prefix, options=options)
        else:
            yield defect(table_path, "unreadable_table", "the file has no bytes")
    except RefusedTableError as error:
        raise RefusedTableError(f"{readable(table_path)}: {error}") from error


def _parquet_rows(file: Path, *, table_path: str, prefix: str, options: TextTables) -> Iterator[Entry]:
    try:
        groups = _groups(file)
        columns = _columns_of_parquet(file)
    except BROKEN as error:
        yield defect(table_path, "unreadable_table", one_line(error))
        return
    texts = columns_of_text(columns, options)
    types = {field.name: field.type for field in pq.read_schema(file)}
    for name in texts:
        if not is_text(types[name]):
            raise RefusedTableError(f"column {name} holds {types[name]}, expected text")
    try:
        prefix = f"{prefix}{place_of_rows(texts)}/"
        yield from label_rows(file, table_path=table_path, groups=groups, others=texts, prefix=prefix)
    except BROKEN as error:
        yield defect(table_path, "unreadable_table", one_line(error))


def _groups(file: Path) -> RowGroups:
    groups = row_groups(file, stamp_of(file))
    if groups.num_rows > ROWS_A_BYTE * file.stat().st_size:
        raise UnreadableTableError(f"it claims {groups.num_rows} rows in {file.stat().st_size} bytes")
    return groups


def _columns_of_parquet(file: Path) -> list[str]:
    return list(pq.read_schema(file).names)


def _text_rows(file: Path, *, table_path: str, prefix: str, options: TextTables) -> Iterator[Entry]:
    try:
        table, encoding = open_table(file, options)
    except UnreadableTableError as error:
        raise RefusedTableError(str(error)) from error
    if not len(table):
        yield defect(table_path, "unreadable_table", "the table has no rows")
        return
    texts = columns_of_text(table.columns, options)
    place, digits = f"{prefix}{place_of_rows(texts, encoding=encoding)}/", digits_of(len(table))
    targets: set[str] = set()
    lists: Counter[str] = Counter()
    for number in range(len(table)):
        path = f"{place}{number:0{digits}d}"
        try:
            cells = table.row(number)
            if isinstance(table, CsvTable) and all(name == cell for name, cell in cells.items()):
                again = f"line {table.lines[number]} is the header again"
                logger.warning("warning: %s: %s", readable(table_path), again)
                yield defect(path, NOT_A_SAMPLE, again)
                continue
            labels = {column(name): cell for name, cell in cells.items() if name not in texts}
            said = _said(labels, lists=lists)
        except ValueError as error:
            yield defect(path, "unreadable_row", str(error))
            continue
        if len(targets) + len(lists) > MOST_COLUMNS:
            raise RefusedTableError(f"more than {MOST_COLUMNS} different keys up to line {table.lines[number]}")
        targets.update(targets_among(said))
        yield Entry(path=path, said=said, is_named=True)
    yield from list_columns(list(lists), table=table_path, has_targets=bool(targets))


def open_table(file: Path, options: TextTables) -> tuple[TextTable, str]:
    """Return a table and the encoding that its path has to name; UTF-8 where it need not."""
    encoding = UTF_8
    if options.encoding is not None:
        content = file.read_bytes()
        encoding = UTF_8 if mark_of(content) else encoding_of(content, otherwise=options.encoding)
    return open_text_table(file, encoding=None if encoding == UTF_8 else encoding), encoding


def _said(labels: Mapping[str, Any], *, lists: Counter[str]) -> dict[str, str]:
    """Return the labels and other facts in a row. Raises ValueError where a cell cannot be read."""
    texts = {name: cell_text(cell) for name, cell in labels.items() if is_label(name, cell)}
    lists.update(labels.keys() - texts.keys())
    if any(readable(name) != name or readable(cell or "") != (cell or "") for name, cell in texts.items()):
        raise ValueError("not UTF-8")
    return said_in_row(texts)


def columns_of_text(columns: list[str], options: TextTables) -> list[str]:
    """Return the columns of the text, called as in the file.

    Raises:
        RefusedTableError: they are missing, or several columns may be the ones.
    """
    called = {column(name): name for name in columns}
    if problem := column_twice(columns):
        raise RefusedTableError(problem)
    if options.text_columns:
        wanted = [column(name) for name in options.text_columns]
        missing = [name for name in wanted if name not in called]
        found = [] if missing else [called[name] for name in wanted]
        expected = f"{', '.join(map(repr, wanted))}, as scan.text_columns says: correct it"
    else:
        found = [name for name in columns if name.strip().casefold() in USUAL_COLUMNS]
        found = found if len(found) == 1 else []
        expected = (
            f"one column of the text, called {', '.join(USUAL_COLUMNS[:-1])} or {USUAL_COLUMNS[-1]}: name yours in "
            "scan.text_columns, such as [title, body]"
        )
    if not found:
        raise RefusedTableError(
            f"columns {shown(columns)}; expected {expected}. Is its first line no header, then add one; is it no table "
            "of texts, then move it out of the batch"
        )
    if len(place_of_rows(found)) > LONGEST_PLACE:
        raise RefusedTableError("the names of the columns of the text are too long: shorten them")
    return found


def column_twice(columns: Sequence[str]) -> str:
    """Return the fault of a column that appears twice; "" if there is none."""
    counts = Counter(map(column, columns))
    twice = sorted(name for name in counts if name and counts[name] > 1)
    return f"column {shown(twice[:1])} appears twice: call each otherwise" if twice else ""


def shown(columns: Iterable[str]) -> str:
    """Return the names of columns for a message, without those that may be a text."""
    names = (repr(name) if len(name) <= LONGEST_NAME else f"(a cell of {len(name)} characters)" for name in columns)
    return ", ".join(names)[:200]


def is_parquet(path: Path) -> bool:
    return has_ending(path.name, (parquet_table.ENDING,))
