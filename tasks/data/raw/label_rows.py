"""Read a table that names files, as a stream of rows: CSV, TSV, JSON lines or Parquet, within bounds.

A column of paths is called `path`, or as other tools call it. The cost of a table from a stranger is bounded before
any part of it is in memory.
"""

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tasks.data.raw.cells import (
    MOST_COLUMNS,
    Cells,
    cell_text,
    check_number,
    is_label,
    is_nested,
    is_single,
    lists_of_labels,
)
from tasks.data.raw.entries import DOMAIN, column, targets_among
from tasks.data.raw.usual_names import PATH, PATHS
from tasks.data.samples.parquet_cells import (
    BROKEN,
    UnreadableTableError,
    one_line,
    open_table,
    row_groups,
    stamp_of,
)

DELIMITERS = (",", ";", "\t")
LONGEST_HEADER = 100_000  # characters
LONGEST_ROW = 1_000_000  # characters
NO_OBJECT = 'no JSON object, such as {"file_name": …, "label": …}'
MOST_BYTES = 2**30  # of a table: some 20 million rows
FIRST_LINES = 1000  # of JSON, whose keys are the columns: the first sample need not have a label
ROWS_A_BYTE = 8  # of a Parquet file: paths differ, so that no row is smaller


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table: its cells by column, or the `problem` why it has none.

    `number` counts lines in a text, and rows in a Parquet file, from 1.
    """

    number: int
    cells: Mapping[str, str | None]
    problem: str = ""


def read_columns(table: Path) -> list[str]:
    """Return the columns of a table, called as `column` calls them; the one of paths is PATH.

    Raises:
        UnreadableTableError: the table has no columns that can be read.
    """
    if table.suffix.lower() == ".parquet":
        return as_compared(_open_parquet(table).schema_arrow.names)
    with _open(table) as file:
        if table.suffix.lower() == ".jsonl":
            rows = islice(_json_rows(file, lists=Counter()), FIRST_LINES)
            first = next(rows, Row(number=1, cells={}, problem=NO_OBJECT))
            if first.problem:
                raise UnreadableTableError(f"its first line is {first.problem}")
            return list(dict.fromkeys(chain(first.cells, *(row.cells for row in rows))))
        try:
            return as_compared(next(_csv_reader(file), []))
        except csv.Error as error:
            raise UnreadableTableError(
                f"no header: expected a column {PATH} and a column for each target ({error})"
            ) from error


def read_rows(table: Path, columns: Sequence[str], *, lists: Counter[str]) -> Iterator[Row]:
    """Yield the rows of a table, whose `columns` are those of `read_columns`.

    Args:
        lists: counts, by column, the cells that are left out because they hold several values, but no list of labels.

    Raises:
        UnreadableTableError: a Parquet file has more rows than a table of its size can have, or the lines of JSON have
            more keys than a table has columns.
    """
    if table.suffix.lower() == ".parquet":
        yield from _parquet_rows(table, columns, lists=lists)
        return
    with _open(table) as file:
        yield from (_json_rows(file, lists=lists) if table.suffix.lower() == ".jsonl" else _csv_rows(file, columns))


def check_text(table: Path) -> None:
    """Raise UnreadableTableError unless the table is UTF-8 and not too large; Parquet is no text."""
    size = table.stat().st_size
    if size > MOST_BYTES:
        raise UnreadableTableError(f"{size} bytes, expected at most {MOST_BYTES}: no table of labels is that large")
    if table.suffix.lower() == ".parquet":
        return
    wrong, number = [], 0
    decoder = codecs.getincrementaldecoder("utf-8")()  # a line that comes in pieces may be cut within a character
    with table.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_ROW), b""), start=1):
            try:
                decoder.decode(line, final=len(line) < LONGEST_ROW)
            except UnicodeDecodeError:
                decoder.reset()
                wrong.append(number)
    if wrong:
        raise UnreadableTableError(
            f"{len(wrong)} of its {number} lines are not UTF-8 (the first is line {wrong[0]}): save the table as UTF-8"
        )


def check_columns(columns: Sequence[str]) -> None:
    """Raise UnreadableTableError unless the columns of a table have paths, and targets or domains, each once."""
    shown = ", ".join(columns)[:200]
    check_number(columns)
    if PATH not in columns:
        raise UnreadableTableError(
            f"columns {shown}; expected {PATH} and a column for each target: call the column of paths {PATH!r}"
        )
    twice = sorted(name for name, count in Counter(columns).items() if name and count > 1)
    if twice:
        raise UnreadableTableError(f"column {twice[0]} appears twice")
    if not targets_among(columns) and DOMAIN not in columns:  # samples without labels may have a domain
        raise UnreadableTableError(f"columns {shown}; expected a column for each target, such as label, or {DOMAIN}")


def _open(table: Path) -> io.TextIOWrapper:
    # surrogateescape confines bytes that are not UTF-8 to their own row
    return table.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _csv_reader(file: io.TextIOWrapper) -> "csv._reader":  # type: ignore[name-defined]
    first = file.readline(LONGEST_HEADER)
    file.seek(0)
    return csv.reader(_lines(file), delimiter=_delimiter(first), strict=True)


def _lines(file: io.TextIOWrapper) -> Iterator[str]:
    """Yield the lines; one that is too long for a row comes in pieces, which are no rows."""
    return iter(lambda: file.readline(LONGEST_ROW), "")


def _delimiter(first: str) -> str:
    """Return the delimiter that gives the first line a column of paths, or else the most columns."""

    def score(mark: str) -> tuple[bool, int]:
        cells = [cell.strip(' "\r\n\ufeff').lower() for cell in first.split(mark)]
        return not set(PATHS).isdisjoint(cells), len(cells)

    return max(DELIMITERS, key=score)  # a comma, where they are equal


def as_compared(names: Sequence[str]) -> list[str]:
    """Return the columns as they are compared. Of the names of a column of paths, the first of PATHS wins."""
    columns = [column(name) for name in names]
    called = next((name for name in PATHS if name in [column.lower() for column in columns]), None)
    return [PATH if column.lower() == called else column for column in columns]


def _csv_rows(file: io.TextIOWrapper, columns: Sequence[str]) -> Iterator[Row]:
    rows = _csv_reader(file)
    next(rows, None)
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield Row(number=rows.line_num, cells={}, problem=str(error))
            continue
        if row is None:
            return
        if len(row) == len(columns):
            yield Row(number=rows.line_num, cells=dict(zip(columns, row, strict=True)))
        elif row:  # an empty line is not a row
            yield Row(number=rows.line_num, cells={}, problem=f"{len(row)} cells, expected {len(columns)}")


def _json_rows(file: io.TextIOWrapper, *, lists: Counter[str]) -> Iterator[Row]:
    columns: set[str] = set()
    for number, line in enumerate(_lines(file), start=1):
        if line.strip():
            row = _json_row(line, number=number, lists=lists)
            columns.update(row.cells)
            if len(columns) + len(lists) > MOST_COLUMNS:
                raise UnreadableTableError(f"more than {MOST_COLUMNS} different keys up to line {number}")
            yield row


def _json_row(line: str, *, number: int, lists: Counter[str]) -> Row:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):  # the second for a thousand brackets
        content = None
    if not isinstance(content, dict):
        return Row(number=number, cells={}, problem=NO_OBJECT)
    cells = dict(zip(as_compared(list(content)), content.values(), strict=True))
    labels = {name: cell for name, cell in cells.items() if is_label(name, cell)}
    lists.update(cells.keys() - labels.keys())
    return Row(number=number, cells={name: cell_text(cell) for name, cell in labels.items()})


def _parquet_rows(table: Path, columns: Sequence[str], *, lists: Counter[str]) -> Iterator[Row]:
    file = _open_parquet(table)
    num_rows, size = file.metadata.num_rows, table.stat().st_size
    groups = row_groups(table, stamp_of(table))
    if num_rows > ROWS_A_BYTE * size:
        raise UnreadableTableError(f"it claims {num_rows} rows in {size} bytes: no row is that small")
    fields = list(zip(columns, file.schema_arrow, strict=True))
    of_labels = lists_of_labels(table, [field.name for name, field in fields if targets_among([name])])
    read = {field.name: name for name, field in fields if is_single(field.type) or field.name in of_labels}
    lists.update(name for name, field in fields if is_nested(field.type) and field.name not in read)
    reader = Cells(table, list(read))
    number = 0
    for group, numbers in enumerate(groups.ranges()):
        rows = reader.in_group(group)
        for _ in numbers:
            number += 1
            try:
                texts = {read[name]: _text(read[name], cell) for name, cell in next(rows).items()}
                yield Row(number=number, cells=texts)
            except ValueError as error:
                yield Row(number=number, cells={}, problem=one_line(error))


def _text(name: str, cell: Any) -> str | None:
    is_path = name == PATH and isinstance(cell, bytes)
    return cell.decode("utf-8", "surrogateescape") if is_path else cell_text(cell)  # as in a CSV


def _open_parquet(table: Path) -> pq.ParquetFile:
    try:
        return open_table(table)
    except BROKEN as error:
        raise UnreadableTableError(one_line(error)) from error
