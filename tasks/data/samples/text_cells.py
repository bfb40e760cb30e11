"""Read the bytes of a text by its path: canonical bytes, which are the same in every layout that a text comes in.

A text is one or several cells, such as a title and a body. Its canonical bytes are the JSON list of its cells in
Unicode NFC with `\n` at the ends of lines.

The path of a row of a table is `FILE/COLUMNS/NUMBER`, such as `news.csv/title,body/17`: the columns of the text,
percent-encoded, and the number of the row from 0. The encoding stands behind the columns where a file is not UTF-8 and
has no mark: `news.csv/title,body;cp1252/17`, or `note.txt/;cp1252`.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from tasks.data.samples.contents import is_file, read_file
from tasks.data.samples.defects import DefectError
from tasks.data.samples.parquet_cells import read_cells
from tasks.data.samples.text_encoding import (
    MARKS,
    UTF_8,
    encoding_of,
    is_wide,
    is_wide_encoding,
    known_encoding,
    mark_of,
)
from tasks.data.samples.text_tables import open_text_table

PARQUET = ".parquet"
OTHER_FILES = (b"%PDF", b"PK\3\4", b"\0\5\x16\7")  # which may be ASCII, or decode in any encoding of single bytes
LINE_END = re.compile(r"\r\n?")


def canonical(cells: Sequence[str]) -> bytes:
    """Return the canonical bytes of a text's cells. Raises DefectError for a cell that is not text."""
    normal = [unicodedata.normalize("NFC", LINE_END.sub("\n", cell)) for cell in cells]
    try:
        return json.dumps(normal, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise DefectError("not_text", "it has half of a surrogate pair, which is no character") from None


def read_text(path: Path) -> bytes:
    """Return the canonical bytes of the text at `path`: a file of one text, or a row of a table.

    The bytes of a file that is no text are returned as they are, and `decode_sample` names their kind.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableTableError: the row, or the packed file, cannot be read.
        DefectError: the row has a cell that is not text.
    """
    try:
        return _of_file(read_file(path), encoding=None)
    except (FileNotFoundError, NotADirectoryError):
        pass
    if path.name.startswith(";") and is_file(path.parent):
        return _of_file(read_file(path.parent), encoding=known_encoding(unquote(path.name[1:])))
    file, number = path.parent.parent, path.name
    if not (number.isdecimal() and number.isascii() and file.is_file()):
        raise FileNotFoundError(path)
    columns, encoding = _parsed(path.parent.name)
    if file.suffix.lower() == PARQUET:
        cells = dict(zip(columns, read_cells(file, tuple(columns), int(number), what="text"), strict=True))
    else:
        cells = open_text_table(file, encoding=encoding).row(int(number))
    return canonical([_text(name, cells.get(name)) for name in columns])


def text_of_bytes(content: bytes, *, otherwise: str | None) -> bytes:
    """Return the canonical bytes of a file of one text, from its content.

    Args:
        otherwise: the encoding of a file that has no mark and is not UTF-8.
    """
    encoding = encoding_of(content, otherwise=otherwise)
    return _of_file(content, encoding=None if encoding == UTF_8 or mark_of(content) else encoding)


def place_of_rows(columns: Sequence[str], *, encoding: str = UTF_8) -> str:
    """Return the folder in the paths of the rows of a table, `COLUMNS` or `COLUMNS;ENCODING`."""
    return ",".join(map(_quoted, columns)) + _named(encoding)


def place_of_file(path: str, *, encoding: str) -> str:
    """Return the path of a file of one text, with its encoding where it is not UTF-8."""
    return f"{path}/{_named(encoding)}" if encoding != UTF_8 else path


def _named(encoding: str) -> str:
    return "" if encoding == UTF_8 else f";{_quoted(encoding)}"


def _quoted(name: str) -> str:
    return quote(name, safe="").replace(".", "%2E")  # which stands for a folder, or hides a file


def _parsed(place: str) -> tuple[list[str], str | None]:
    columns, _, encoding = place.partition(";")
    return [unquote(name) for name in columns.split(",")], known_encoding(unquote(encoding)) if encoding else None


def _text(name: str, cell: Any) -> str:
    if cell is None:  # a missing cell is a blank one
        return ""
    if not isinstance(cell, str):
        raise DefectError("not_text", f"column {name} holds a value of type {type(cell).__name__}, expected text")
    return cell


def _of_file(content: bytes, *, encoding: str | None) -> bytes:
    mark = mark_of(content)
    if content.startswith(OTHER_FILES) or (not mark and is_wide(content) and not is_wide_encoding(encoding or "")):
        return content
    try:
        text = content[len(mark) :].decode(MARKS[mark] if mark else encoding or UTF_8)
    except UnicodeError:
        return content
    if encoding and "\0" in text:  # any bytes are text in an encoding of single bytes
        return content
    # the last line end is the file's, not the text's
    return canonical([LINE_END.sub("\n", text).removesuffix("\n")])
