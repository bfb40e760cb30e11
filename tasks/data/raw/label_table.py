"""Find the entries of a batch that has a table beside its files, such as `labels.csv`.

Its columns are the path of a file, the targets, and optionally group, domain and split.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from tasks.data.raw.entries import Entry, defect, readable, said_in_row
from tasks.data.raw.files import file_entry
from tasks.data.raw.label_rows import Row, check_columns, check_text, read_columns, read_rows
from tasks.data.raw.nearest import Files
from tasks.data.raw.parquet_table import list_columns
from tasks.data.raw.usual_names import PATH
from tasks.data.samples.parquet_cells import BROKEN, one_line

logger = logging.getLogger("graftline")


def find_rows(batch: Path, tables: Sequence[str], files: Files) -> Iterator[Entry]:
    """Yield an entry for each row of the batch's tables, and for each file that no row names: it has no label."""
    named = set(tables)
    for table in tables:
        entry = file_entry(batch, table, {}, is_walked=True)  # it may be a link that leaves the batch, or a pipe
        for row in [entry] if entry.reason else _read(batch, table, files):
            named.add(row.path)
            yield row
    for path in files.paths:
        if path not in named and readable(path) not in named:
            yield file_entry(batch, path, {}, is_walked=True)


def _read(batch: Path, table: str, files: Files) -> Iterator[Entry]:
    lists: Counter[str] = Counter()
    try:
        check_text(batch / table)
        columns = read_columns(batch / table)
        check_columns(columns)
        for row in read_rows(batch / table, columns, lists=lists):
            yield _entry(batch, table, files, row)
    except BROKEN as error:
        yield defect(table, "unreadable_table", one_line(error))
        return
    yield from list_columns(list(lists), table=table, has_targets=True)


def _entry(batch: Path, table: str, files: Files, row: Row) -> Entry:
    place, number = f"{table}, line {row.number}", f"{table}:{row.number}"
    if row.problem:
        return defect(number, "unreadable_row", f"{place}: {row.problem}")
    path = row.cells.get(PATH) or ""
    others = {name: cell for name, cell in row.cells.items() if name != PATH}
    folder = table[: table.rfind("/") + 1]
    file = files.find(path, folder=folder)
    if any(readable(cell) != cell for cell in others.values() if cell):
        return defect(file or path or number, "unreadable_row", f"{place}: not UTF-8")
    try:
        said = said_in_row(others)
    except ValueError as error:
        return defect(file or path or number, "unreadable_row", f"{place}: {error}")
    if not path.strip():
        return defect(number, "missing_file", f"{place}: the path is blank", said)
    if PurePosixPath(path) == PurePosixPath(table):
        return defect(path, "not_an_image", f"{place}: the table names itself", said)
    return _named(batch, files, path, said, file=file, folder=folder)


def _named(batch: Path, files: Files, path: str, said: dict[str, str], *, file: str | None, folder: str) -> Entry:
    """Return the entry of the file that a row means."""
    detail = ""
    if file is None:
        file, detail = files.nearest(path, folder=folder)
    entry = file_entry(batch, file or path.strip(), said, is_walked=file is not None)
    is_missing = entry.reason == "missing_file" and detail
    return Entry(
        path=entry.path,
        said=said,
        reason=entry.reason,
        detail=readable(detail) if is_missing else entry.detail,
        is_named=True,
    )
