"""Find the rows of a CSV or TSV in its bytes, so that a damaged row costs no other one.

A cell in quotes may hold delimiters and line breaks, and may be of any length. Python's own reader stops within a cell
of 131,072 characters and takes its lines for rows; behind a quote that is never closed it reads no row.

A row whose quotes do not fit is that line alone, as long as its number of quotes is even. An odd number hides where
the row ends. Then the line is one row if the file shows that each of its lines is one: no row spans lines, and every
other row has its quotes in the same columns. Otherwise the table is refused, with the line.
"""

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from tasks.data.samples.parquet_cells import UnreadableTableError

DELIMITERS = (b",", b";", b"\t")
MOST_ROW_BYTES = 2**26
MOST_COLUMNS = 1000
MAX_NAMED = 5  # lines in a message
LINE = re.compile(rb"[^\r\n]*+")
LINE_END = re.compile(rb"\r\n|\r|\n")
MISFIT = "its quotes do not fit: write a quote within quotes twice"
Quoting = Literal["doubled", "backslashed", "none"]  # how a quote is written within quotes; or quotes mean nothing


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The delimiter of cells, and how a quote is written within quotes."""

    delimiter: bytes
    quoting: Quoting


@dataclass(frozen=True, kw_only=True)
class CsvRows:
    """The places of the rows of a table in its bytes.

    `header` are the cells of the first row. Row `i` is `content[starts[i] : starts[i + 1]]` and begins in line
    `lines[i]`, counted from 1; a row that cannot be read has a sentence in `problems`.
    """

    dialect: Dialect
    header: list[bytes]
    starts: "array[int]"
    lines: "array[int]"
    problems: dict[int, str]


def find_rows(content: bytes, *, start: int = 0, prefers_tabs: bool = False) -> CsvRows:
    """Return the rows of a table, whose first row is the header.

    Args:
        content: in an encoding in which ASCII is itself.
        start: of the header, behind a byte-order mark.
        prefers_tabs: whether the delimiter is a tab where the header does not show it.

    Raises:
        UnreadableTableError: there is no header, or a quote hides where a row ends.
    """
    line = 1
    while end := LINE_END.match(content, start):
        start, line = end.end(), line + 1
    order = DELIMITERS[::-1] if prefers_tabs else DELIMITERS
    delimiter = max(order, key=lambda mark: _num_cells(content, start, mark))
    dialect = Dialect(delimiter=delimiter, quoting="doubled")
    match = _patterns(dialect).row.match(content, start)
    if not match or match.end() == start:
        raise UnreadableTableError(
            "its header is blank" if match else "a quote in its header is not closed as it should be"
        )
    header = cells_of(match[0], dialect)
    if len(header) > MOST_COLUMNS:
        raise UnreadableTableError(f"{len(header)} columns, expected at most {MOST_COLUMNS}")
    survey = _best_survey(content, delimiter, start=match.end(), line=line, num_columns=len(header))
    survey.check()
    return CsvRows(
        dialect=survey.dialect, header=header, starts=survey.starts, lines=survey.lines, problems=survey.problems
    )


def cells_of(row: bytes, dialect: Dialect) -> list[bytes]:
    """Return the cells of a whole row, which has no line end, without their quotes."""
    return [_unquoted(cell, dialect) for cell in _raw_cells(row, dialect)]


@dataclass(kw_only=True)
class _Survey:
    """The rows of a table as one dialect splits them."""

    dialect: Dialect
    num_columns: int
    starts: "array[int]" = field(default_factory=lambda: array("Q"))
    lines: "array[int]" = field(default_factory=lambda: array("Q"))
    problems: dict[int, str] = field(default_factory=dict)
    num_damaged: int = 0  # rows whose quotes do not fit
    spans_lines: bool = False  # whether any row does
    has_doubled: bool = False  # whether a cell in quotes, on one line, has a quote that is written twice
    open_lines: list[int] = field(default_factory=list)  # with an odd number of quotes that do not fit
    cut_lines: list[int] = field(default_factory=list)  # of these, with too few delimiters to be a whole row
    stray_lines: list[int] = field(default_factory=list)  # with an odd number of quotes in cells that begin with none
    odd_lines: list[int] = field(default_factory=list)  # of these, with another number of cells than the header has
    styles: set[tuple[bool, ...]] = field(default_factory=set)  # which cells are in quotes, of the sound rows

    @property
    def num_doubtful(self) -> int:
        return self.num_damaged + (len(self.stray_lines) if self.spans_lines else 0)

    def check(self) -> None:
        """Raise UnreadableTableError where the quotes do not show in which line a row ends."""
        doubtful = sorted({*self.open_lines, *self.stray_lines}) if self.spans_lines else sorted(self.odd_lines)
        is_regular = len(self.styles) == 1 and any(next(iter(self.styles)))
        if self.open_lines and not (is_regular and not self.cut_lines):
            doubtful = sorted({*doubtful, *self.open_lines})
        if doubtful:
            first, *others = doubtful
            more = len(others) - MAX_NAMED
            named = ", ".join(map(str, others[:MAX_NAMED])) + f" and {more} more" * (more > 0)
            also = f" (so have the lines {named})" if others else ""
            raise UnreadableTableError(
                f"line {first} has an odd number of quotes{also}, so that nobody can tell where that row ends, and "
                "none of the table is read: close the quote, or write a quote within quotes twice"
            )


def _best_survey(content: bytes, delimiter: bytes, *, start: int, line: int, num_columns: int) -> _Survey:
    """Return the rows in the dialect that fits them best."""

    def survey(quoting: Quoting) -> _Survey:
        dialect = Dialect(delimiter=delimiter, quoting=quoting)
        return _survey(content, dialect, start=start, line=line, num_columns=num_columns)

    best = survey("doubled")
    if best.num_doubtful and b'\\"' in content:
        best = min(best, survey("backslashed"), key=lambda found: found.num_doubtful)
    if delimiter == b"\t" and num_columns > 1 and (best.num_doubtful or best.spans_lines) and not best.has_doubled:
        plain = survey("none")  # as programs that know no quotes write TSV
        best = best if plain.problems else plain
    return best


def _survey(content: bytes, dialect: Dialect, *, start: int, line: int, num_columns: int) -> _Survey:
    found = _Survey(dialect=dialect, num_columns=num_columns)
    pattern = _patterns(dialect).row
    at, size = start, len(content)
    while at < size:
        match = pattern.match(content, at)
        end = match.end() if match else LINE.match(content, at).end()  # type: ignore[union-attr]
        row = content[at:end]
        if row:
            _note(found, row, at=at, line=line, is_whole=bool(match))
        if b"\n" in row or b"\r" in row:
            line += len(LINE_END.findall(row))
        at = end + (2 if content[end : end + 2] == b"\r\n" else 1)
        line += 1
    found.starts.append(size)
    return found


def _note(found: _Survey, row: bytes, *, at: int, line: int, is_whole: bool) -> None:
    """Add a row to the survey; one that is not whole is a line whose quotes do not fit."""
    number, dialect = len(found.lines), found.dialect
    found.starts.append(at)
    found.lines.append(line)
    if len(row) > MOST_ROW_BYTES:
        found.problems[number] = f"{len(row)} bytes, expected at most {MOST_ROW_BYTES}"
        return
    num_quotes = row.count(b'"') if dialect.quoting != "none" else 0
    if not is_whole:
        found.num_damaged += 1
        found.problems[number] = MISFIT
        if num_quotes % 2:
            found.open_lines.append(line)
            if row.count(dialect.delimiter) < found.num_columns - 1:
                found.cut_lines.append(line)
        return
    cells = _raw_cells(row, dialect) if num_quotes else []
    num_cells = len(cells) or row.count(dialect.delimiter) + 1
    if num_cells != found.num_columns:
        found.problems[number] = f"{num_cells} cells, expected {found.num_columns}"
    style = tuple(cell.startswith(b'"') for cell in cells)
    if num_cells == found.num_columns:
        found.styles.add(style)
    if not num_quotes:
        return
    spans = b"\n" in row or b"\r" in row
    found.spans_lines |= spans
    found.has_doubled |= not spans and any(
        b'""' in cell[1:-1] for cell, quoted in zip(cells, style, strict=True) if quoted
    )
    if sum(cell.count(b'"') for cell, quoted in zip(cells, style, strict=True) if not quoted) % 2:
        found.stray_lines.append(line)
        if num_cells != found.num_columns:
            found.odd_lines.append(line)
        elif any(style):  # the quote may have moved the end of a cell
            found.problems[number] = MISFIT


def _num_cells(content: bytes, start: int, delimiter: bytes) -> int:
    dialect = Dialect(delimiter=delimiter, quoting="doubled")
    match = _patterns(dialect).row.match(content, start)
    return len(_raw_cells(match[0], dialect)) if match else 0


def _raw_cells(row: bytes, dialect: Dialect) -> Sequence[bytes]:
    if dialect.quoting == "none" or b'"' not in row:
        return row.split(dialect.delimiter)
    return list(_cells_with_quotes(row, _patterns(dialect).cell))


def _cells_with_quotes(row: bytes, pattern: "re.Pattern[bytes]") -> Iterator[bytes]:
    at = -1
    while at < len(row):
        match = pattern.match(row, at + 1)
        assert match
        yield match[0]
        at = match.end()


def _unquoted(cell: bytes, dialect: Dialect) -> bytes:
    if dialect.quoting == "none" or not cell.startswith(b'"'):
        return cell
    inner = cell[1:-1]
    if dialect.quoting == "backslashed":
        return re.sub(rb'\\(["\\])|""', lambda match: match[1] or b'"', inner)
    return inner.replace(b'""', b'"')


@dataclass(frozen=True, kw_only=True)
class _Patterns:
    cell: "re.Pattern[bytes]"
    row: "re.Pattern[bytes]"


@cache
def _patterns(dialect: Dialect) -> _Patterns:
    """Return the patterns of a cell and of a whole row. None of them goes back, so that time is linear."""
    mark = re.escape(dialect.delimiter)
    plain = rb'(?:[^"%b\r\n][^%b\r\n]*+)?+' % (mark, mark)
    cell = {
        "doubled": rb'(?:"[^"]*+(?:""[^"]*+)*+"|%b)' % plain,
        "backslashed": rb'(?:"[^"\\]*+(?:(?:\\.|"")[^"\\]*+)*+"|%b)' % plain,
        "none": rb"[^%b\r\n]*+" % mark,
    }[dialect.quoting]
    row = rb"%b(?:%b%b)*+(?=[\r\n]|\Z)" % (cell, mark, cell)
    return _Patterns(cell=re.compile(cell, re.DOTALL), row=re.compile(row, re.DOTALL))
