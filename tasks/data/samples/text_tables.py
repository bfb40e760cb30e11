"""Read the rows of a table of texts, CSV, TSV or JSON Lines, by their numbers.

The places of the rows are found once for a file and a state of it. Only these are kept, not the text.
"""

import json
from array import array
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

from tasks.data.samples.csv_rows import LINE, LINE_END, MOST_COLUMNS, MOST_ROW_BYTES, CsvRows, cells_of, find_rows
from tasks.data.samples.parquet_cells import UnreadableTableError, stamp_of
from tasks.data.samples.text_encoding import MARKS, UTF_8, is_plain, is_utf8, is_wide, is_wide_encoding, mark_of

JSON_ENDINGS = (".jsonl", ".ndjson")
TAB_ENDINGS = (".tsv", ".tab")
MOST_BYTES = 2**30  # of a table
FIRST_ROWS = 1000  # of JSON, whose keys are the columns
NO_OBJECT = 'no JSON object, such as {"text": …, "label": …}'
_opening = Lock()  # threads that need the same table look through it once


class TextTable:
    """A table of texts. Its rows are counted from 0, those that cannot be read too.

    `columns` are their names as they stand in the file.
    """

    columns: list[str]

    def __init__(self, file: Path, content: bytes, *, encoding: str) -> None:
        self.file = file
        mark = len(mark_of(content))
        if is_plain(encoding):
            self.encoding, self.content = encoding, None
        else:
            content, mark = _as_utf8(content[mark:], encoding), 0
            self.encoding, self.content = UTF_8, content
        self._find(content, start=mark)

    def __len__(self) -> int:
        return len(self.lines)

    def row(self, number: int) -> dict[str, Any]:
        """Return the cells of a row by column: texts, and in JSON any other value too.

        Raises:
            UnreadableTableError: there is no such row, or it cannot be read.
        """
        if not 0 <= number < len(self):
            raise UnreadableTableError(f"{self.file.name} has no row {number}")
        try:
            return self._cells(number, self._bytes(self.starts[number], self.starts[number + 1]).strip(b"\r\n"))
        except UnicodeDecodeError:
            problem = f"its bytes are not {self.encoding}: mend it, or name the encoding of the file in scan.encoding"
        except ValueError as error:
            problem = str(error)
        raise UnreadableTableError(f"line {self.lines[number]}: {problem}")

    starts: "array[int]"
    lines: "array[int]"

    def _find(self, content: bytes, *, start: int) -> None:
        """Find the places of the rows: row i is content[starts[i]:starts[i + 1]] and begins in line lines[i]."""
        raise NotImplementedError

    def _cells(self, number: int, row: bytes) -> dict[str, Any]:
        raise NotImplementedError

    def _bytes(self, start: int, end: int) -> bytes:
        if self.content is not None:
            return self.content[start:end]
        with self.file.open("rb") as file:
            file.seek(start)
            return file.read(end - start)


class CsvTable(TextTable):
    """A table with a header and a row a line, or several lines where a cell in quotes has line breaks."""

    rows: CsvRows

    def _find(self, content: bytes, *, start: int) -> None:
        self.rows = find_rows(content, start=start, prefers_tabs=self.file.suffix.lower() in TAB_ENDINGS)
        self.starts, self.lines = self.rows.starts, self.rows.lines
        try:
            self.columns = [cell.decode(self.encoding) for cell in self.rows.header]
        except UnicodeDecodeError:
            raise UnreadableTableError(
                f"its header is not {self.encoding}: save it as UTF-8, or name its encoding in scan.encoding"
            ) from None

    def _cells(self, number: int, row: bytes) -> dict[str, Any]:
        if problem := self.rows.problems.get(number):
            raise ValueError(problem)
        cells = [cell.decode(self.encoding) for cell in cells_of(row, self.rows.dialect)]
        return dict(zip(self.columns, cells, strict=True))


class JsonTable(TextTable):
    """A table with a JSON object a line; its columns are the keys of the first rows."""

    def _find(self, content: bytes, *, start: int) -> None:
        self.starts, self.lines = array("Q"), array("Q")
        at, line = start, 1
        while at < len(content):
            end = LINE.match(content, at).end()  # type: ignore[union-attr]
            if content[at:end].strip():
                self.starts.append(at)
                self.lines.append(line)
            line_end = LINE_END.match(content, end)
            at, line = line_end.end() if line_end else end, line + 1
        self.starts.append(len(content))
        first = list(islice(_readable(self), FIRST_ROWS))
        if not first and len(self):
            raise UnreadableTableError(f"its first line is {NO_OBJECT}")
        self.columns = list(dict.fromkeys(name for row in first for name in row))
        if len(self.columns) > MOST_COLUMNS:
            raise UnreadableTableError(f"{len(self.columns)} keys, expected at most {MOST_COLUMNS}")

    def _cells(self, number: int, row: bytes) -> dict[str, Any]:
        if len(row) > MOST_ROW_BYTES:
            raise ValueError(f"{len(row)} bytes, expected at most {MOST_ROW_BYTES}")
        text = row.decode(self.encoding)
        try:
            content = json.loads(text, object_pairs_hook=_once)
        except UnreadableTableError:
            raise
        except (ValueError, RecursionError):  # the second for a thousand brackets
            content = None
        if not isinstance(content, dict):
            raise ValueError(NO_OBJECT)
        return content


def open_text_table(file: Path, *, encoding: str | None = None) -> TextTable:
    """Return the table at `file`, a CSV, TSV or JSON Lines.

    Args:
        encoding: of the file; None for UTF-8, or the encoding that the mark at its start names.

    Raises:
        UnreadableTableError: the table cannot be read.
    """
    with _opening:
        return _opened(file, stamp_of(file), encoding)


@lru_cache(maxsize=16)
def _opened(file: Path, stamp: tuple[int, int], encoding: str | None) -> TextTable:
    _, size = stamp
    if size > MOST_BYTES:
        raise UnreadableTableError(f"{size} bytes, expected at most {MOST_BYTES}: write it as several files")
    content = file.read_bytes()
    mark = mark_of(content)
    encoding = MARKS[mark] if mark else encoding or UTF_8
    check_encoding(content, encoding=encoding)
    kind = JsonTable if file.suffix.lower() in JSON_ENDINGS else CsvTable
    return kind(file, content, encoding=encoding)


def check_encoding(content: bytes, *, encoding: str) -> None:
    """Raise UnreadableTableError if a table is in another encoding; a single row that is damaged is no sign of it."""
    if not is_wide_encoding(encoding) and is_wide(content):
        raise UnreadableTableError(
            f"it looks like UTF-16 without a mark, and not like {encoding}: name its encoding in scan.encoding, such "
            "as utf-16-le, or save it as UTF-8"
        )
    if encoding != UTF_8 or is_utf8(content):
        return
    wrong = [(number, line) for number, line in enumerate(LINE_END.split(content), start=1) if not line.isascii()]
    num_foreign, wrong = len(wrong), [(number, line) for number, line in wrong if not is_utf8(line)]
    if len(wrong) > 1 and 2 * len(wrong) > num_foreign:
        raise UnreadableTableError(
            f"{len(wrong)} of its lines are not UTF-8 (the first is line {wrong[0][0]}): name its encoding in "
            "scan.encoding, such as cp1252, or save it as UTF-8"
        )


def _as_utf8(content: bytes, encoding: str) -> bytes:
    """Return the content in UTF-8, in which half a surrogate pair spoils its own row alone."""
    errors = "surrogatepass" if is_wide_encoding(encoding) else "surrogateescape"
    try:
        return content.decode(encoding, errors).encode(UTF_8, errors)
    except UnicodeError as error:
        raise UnreadableTableError(f"it is not {encoding}: name its encoding in scan.encoding ({error})") from error


def _readable(table: TextTable) -> Iterator[dict[str, Any]]:
    for number in range(len(table)):
        try:
            yield table.row(number)
        except UnreadableTableError:
            continue


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    content = dict(pairs)
    if len(content) < len(pairs):
        raise UnreadableTableError("it has a key twice")
    return content
