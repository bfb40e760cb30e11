"""Find the entries of a batch that has a `labels.csv` beside its files.

Its columns are `path`, the targets, and optionally group, domain and split.
"""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from tasks.data.raw.entries import FACTS, KEYS, Entry, defect, file_entry, readable, said_in_row, text

NAME = "labels.csv"
PATH = "path"
DELIMITERS = (",", ";", "\t")
LONGEST_HEADER = 100_000  # characters
MOST_COLUMNS = 1000


def find_rows(batch: Path, files: Sequence[str]) -> Iterator[Entry]:
    """Yield an entry for each row of the batch's labels.csv, and for each of its `files` that no row names.

    `files` are paths as `walk` returns them.
    """
    # an archive from another system may have accents in another form
    walked = {text(path): path for path in reversed(files)}
    walked |= {path: path for path in files}
    named = set()
    table = file_entry(batch, NAME, {}, is_walked=True)  # it may be a link that leaves the batch, or a pipe
    for entry in [table] if table.reason else _read(batch, walked):
        named.add(entry.path)
        yield entry
    for path in files:
        if path != NAME and path not in named and readable(path) not in named:
            yield defect(path, "label_missing", f"{NAME} does not name the file")


def _read(batch: Path, walked: Mapping[str, str]) -> Iterator[Entry]:
    # surrogateescape confines bytes that are not UTF-8 to their own row
    with (batch / NAME).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        first = file.readline(LONGEST_HEADER)
        file.seek(0)
        rows = csv.reader(file, delimiter=delimiter(first), strict=True)
        header = _next(rows)
        problem = _problem(header)
        if problem:
            yield defect(NAME, "unreadable_table", problem)
            return
        assert isinstance(header, list)
        header = [text(name) for name in header]
        while (row := _next(rows)) is not None:
            if row:  # an empty line is not a row
                yield _entry(batch, walked, header, row, number=rows.line_num)


def _next(rows: Iterator[list[str]]) -> list[str] | csv.Error | None:
    """Return the next row, the error of a row that cannot be read, or None at the end."""
    try:
        return next(rows, None)
    except csv.Error as error:
        return error


def _entry(
    batch: Path, walked: Mapping[str, str], header: list[str], row: list[str] | csv.Error, *, number: int
) -> Entry:
    place = f"{NAME}, line {number}"
    if isinstance(row, csv.Error):
        return defect(f"{NAME}:{number}", "unreadable_row", f"{place}: {row}")
    if len(row) != len(header):
        return defect(f"{NAME}:{number}", "unreadable_row", f"{place}: {len(row)} cells, expected {len(header)}")
    cells = dict(zip(header, row, strict=True))
    path = cells[PATH]
    others = {name: cell for name, cell in cells.items() if name != PATH}
    if any(readable(cell) != cell for cell in others.values()):
        return defect(path or f"{NAME}:{number}", "unreadable_row", f"{place}: not UTF-8")
    try:
        said = said_in_row(others)
    except ValueError as error:
        return defect(path or f"{NAME}:{number}", "unreadable_row", f"{place}: {error}")
    if not path.strip():
        return defect(f"{NAME}:{number}", "missing_file", f"{place}: the path is blank", said)
    if PurePosixPath(path) == PurePosixPath(NAME):
        return defect(path, "not_an_image", f"{place}: the table names itself", said)
    known = walked.get(path) or walked.get(text(path))
    return file_entry(batch, known or path.strip(), said, is_walked=known is not None)


def delimiter(first: str) -> str:
    """Return the delimiter that gives the first line a cell `path`; a comma if none does."""
    return next((mark for mark in DELIMITERS if PATH in [cell.strip(' "\r\n') for cell in first.split(mark)]), ",")


def _problem(header: list[str] | csv.Error | None) -> str:
    """Return the problem of the header, or "" if it has none."""
    if not isinstance(header, list):
        return f"no header: expected a column {PATH} and a column for each target" + (f" ({header})" if header else "")
    names = [text(name) for name in header]
    if len(names) > MOST_COLUMNS:
        return f"{len(names)} columns, expected at most {MOST_COLUMNS}"
    if any(readable(name) != name for name in names):
        return "the header is not UTF-8: save the table as UTF-8"
    if PATH not in names:
        return f"columns {', '.join(names)[:200]}; expected {PATH} and a column for each target"
    twice = sorted(name for name, count in Counter(names).items() if name and count > 1)
    if twice:
        return f"column {twice[0]} appears twice"
    if not set(names) - {"", *FACTS, *KEYS}:
        return f"columns {', '.join(names)[:200]}; expected a column for each target, such as label"
    return ""
