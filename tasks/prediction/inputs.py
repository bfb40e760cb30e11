"""Find the samples in the folders, files and tables (CSV, TSV, JSON lines, Parquet) that a person names, as a stream.

An address that fsspec knows, such as s3://bucket/photos, may be named like a folder or file. Its files are read when
their turn comes, and are not copied; a table of texts is, for as long as its rows are read.

The paths in a table come from a stranger. They lead to files below the table's folder, or below the given `root`, and
nowhere else.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.data.raw import parquet_table, text_table
from tasks.data.raw.cells import is_text
from tasks.data.raw.entries import HIDDEN, Entry, readable
from tasks.data.raw.files import file_entry, walk_folders
from tasks.data.raw.label_rows import as_compared, read_columns, read_rows
from tasks.data.raw.options import TextTables
from tasks.data.raw.parquet_table import digits_of
from tasks.data.raw.text_file import with_encoding
from tasks.data.raw.text_table import (
    USUAL_COLUMNS,
    RefusedTableError,
    column_twice,
    columns_of_text,
    shape_of,
    shown,
)
from tasks.data.raw.usual_names import PATH, has_ending, is_table_of_labels
from tasks.data.samples.contents import is_file, read_content, size_of
from tasks.data.samples.defects import DefectError
from tasks.data.samples.parquet_cells import (
    BROKEN,
    NAMES,
    UnreadableTableError,
    layout_of,
    one_line,
    open_table,
    read_picture,
    stamp_of,
)
from tasks.data.samples.remote import RemoteFile, walk_address
from tasks.data.samples.text_cells import canonical, place_of_rows, read_text
from tasks.text.decode import ENDINGS

STDIN = Path("-")
LONGEST_LINE = 1_000_000  # characters of standard input
PARQUET = ".parquet"
NOT_JSON_LINES = "write it as JSON Lines (.jsonl), an object a line"


@dataclass(frozen=True, kw_only=True)
class RemoteRow:
    """An image in a row of a Parquet file at an address."""

    file: RemoteFile
    row: int


@dataclass(frozen=True, kw_only=True)
class Input:
    """A sample to classify, or the `reason` why it cannot be one.

    `path` is its name for people. `place` is where its bytes are, for `read_input`. An input without a place has its
    bytes as `content`, or is `decoded` already, or has a `reason`.
    """

    path: str
    place: Path | RemoteFile | RemoteRow | None = None
    content: bytes | None = None
    decoded: Any = None
    reason: str = ""
    detail: str = ""


def find_inputs(
    named: Iterable[Path | str],
    *,
    root: Path | None = None,
    left_out: Callable[[Path], bool] = lambda path: False,
    texts: TextTables | None = None,
) -> Iterator[Input]:
    """Yield every sample below the named paths and addresses, in their order; inside a folder in sorted order.

    A file that cannot be a sample is yielded with a reason. Paths for which `left_out` is true are skipped.

    Args:
        named: paths; a str is an address.
        texts: how texts stand in tables; None finds images.

    Raises:
        OSError: an address does not answer, has nothing, or may not be listed.
        ValueError: the kind of an address needs a package that is not installed.
    """
    for path in named:
        if isinstance(path, str):
            yield from _at_address(path, texts=texts)
            continue
        if texts and path == STDIN:
            yield from _lines(texts)
            continue
        try:
            is_folder = path.is_dir()
        except OSError as error:  # for example, the name is too long for any disk
            yield _defect(path, "missing_file", error.strerror or one_line(error))
            continue
        if is_folder:
            yield from _in_folder(path, root=root, left_out=left_out, texts=texts)
        else:
            yield from _in_file(path, root=root, texts=texts)


def text_input(cells: Sequence[str], *, path: str) -> Input:
    """Return the input of a text whose cells are in memory."""
    try:
        return Input(path=path, content=canonical(cells))
    except DefectError as error:
        return Input(path=path, reason=error.reason, detail=str(error))


def read_input(
    item: Input,
    *,
    max_file_bytes: int,
    read: Callable[[Path], bytes] = read_content,
    of_bytes: Callable[[bytes], bytes] = lambda content: content,
) -> bytes:
    """Return the bytes of an input. Raises DefectError if it cannot be read or is too large.

    Args:
        read: the modality's function that returns a sample's bytes by its path.
        of_bytes: the same, by the content of a file.
    """
    if item.content is not None:
        return item.content
    place = item.place
    assert place is not None
    try:
        # a row of a table has no size on disk; if the file is gone, reading it raises the error
        size = place.size if isinstance(place, RemoteFile) else size_of(place) if isinstance(place, Path) else 0
    except OSError:
        size = 0
    try:
        if size > max_file_bytes:
            content = b""
        elif isinstance(place, RemoteRow):
            content = read_picture(place.file, place.row)
        else:
            content = read(place) if isinstance(place, Path) else of_bytes(place.read())
    except FileNotFoundError:
        raise DefectError("missing_file", "the file was removed after it was found") from None
    except UnreadableTableError as error:
        raise DefectError("unreadable_row", str(error)) from error
    except OSError as error:
        raise DefectError("unreadable", error.strerror or str(error)) from error
    if (size := max(size, len(content))) > max_file_bytes:
        raise DefectError("too_many_bytes", f"{size} bytes, expected at most {max_file_bytes}")
    return content


def _lines(texts: TextTables) -> Iterator[Input]:
    """Yield the lines of standard input, each of which is a text."""
    encoding = texts.encoding or "utf-8-sig"
    with open(0, encoding=encoding, errors="surrogateescape", newline="\n", closefd=False) as lines:
        for number in count(1):
            line, path = lines.readline(LONGEST_LINE + 1), f"line {number}"
            if not line:
                return
            if len(line) > LONGEST_LINE and not line.endswith("\n"):
                while len(rest := lines.readline(LONGEST_LINE)) == LONGEST_LINE and not rest.endswith("\n"):
                    pass
                yield Input(path=path, reason="too_many_characters", detail=f"expected at most {LONGEST_LINE}")
                continue
            item = text_input([line.removesuffix("\n").removesuffix("\r")], path=path)
            yield replace(item, detail=f"the line is not {texts.encoding or 'UTF-8'}") if item.reason else item


def _at_address(address: str, *, texts: TextTables | None) -> Iterator[Input]:
    """Yield the samples at an address."""
    for file in walk_address(address):
        inner = file.address[len(address) :].lstrip("/")
        is_named = not inner  # the address is that of the file
        if any(part.startswith(".") for part in PurePosixPath(inner).parts):
            yield _defect(file.address, HIDDEN, "its name, or the name of a folder around it, begins with a dot")
        elif texts is None and is_table_of_labels(inner) and (not has_ending(inner, (PARQUET,)) or _has_paths(file)):
            continue
        elif texts and has_ending(file.name, text_table.ENDINGS):
            yield from _in_remote_table(file, texts=texts, may_only_label=is_table_of_labels(inner))
        elif texts and has_ending(file.name, (".json",)):
            yield _defect(file.address, "unreadable_table", NOT_JSON_LINES)
        elif texts and not is_named and not has_ending(file.name, ENDINGS):
            yield _defect(
                file.address, "not_text",
                "in a folder only .txt and tables are read: name the file itself, or rename it",
            )  # fmt: skip
        elif not texts and has_ending(file.name, (PARQUET,)):
            yield from _in_remote_parquet(file)
        elif not texts and is_named and has_ending(file.name, (".csv", ".tsv", ".jsonl")):
            yield _defect(
                file.address, "unreadable_table", "a table of paths is read from this machine alone: copy it, or name "
                "the folder of its files",
            )  # fmt: skip
        else:
            yield Input(path=readable(file.address), place=file)


def _in_remote_parquet(file: RemoteFile) -> Iterator[Input]:
    """Yield the images in a table's column of images."""
    try:
        layout = layout_of(file, stamp_of(file))
    except BROKEN as error:
        yield _defect(file.address, "unreadable_table", one_line(error))
        return
    digits = digits_of(layout.num_rows)
    for number in range(layout.num_rows):
        yield Input(path=readable(f"{file.address}/{number:0{digits}d}"), place=RemoteRow(file=file, row=number))


def _in_remote_table(file: RemoteFile, *, texts: TextTables, may_only_label: bool) -> Iterator[Input]:
    """Yield the texts in a table, one a row, with their bytes: the table is on this machine while they are read.

    One of paths is skipped where it `may_only_label` its neighbours.
    """
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, f"table{PurePosixPath(file.name).suffix}")
        try:
            table.write_bytes(file.read())
            names = _text_columns(table, shape_of(table, texts).columns, texts)
            if not names and may_only_label:
                return
            if not names:
                raise UnreadableTableError("a table of paths is read from this machine alone: copy it")
        except BROKEN as error:
            problem = one_line(error).replace("scan.encoding", "--encoding").replace(str(table), file.address)
            yield _defect(file.address, "unreadable_table", problem)
            return
        for item in _in_text_table(table, root=None, texts=texts):
            path, detail = (text.replace(str(table), readable(file.address), 1) for text in (item.path, item.detail))
            named = replace(item, path=path, detail=detail, place=None)
            if item.reason:
                yield named
                continue
            assert isinstance(item.place, Path)
            try:
                yield replace(named, content=read_text(item.place))
            except (UnreadableTableError, DefectError) as error:
                reason = error.reason if isinstance(error, DefectError) else "unreadable_row"
                yield replace(named, reason=reason, detail=readable(str(error)))


def _in_folder(
    folder: Path, *, root: Path | None, left_out: Callable[[Path], bool], texts: TextTables | None
) -> Iterator[Input]:
    """Yield the samples of a folder, with the names of one folder at a time in memory.

    Hidden files are yielded with a reason. A table of labels at the top is skipped: it only labels its neighbours.
    """
    for names, unread in walk_folders(folder):
        for inner in names:
            path = folder / inner
            if left_out(path) or _only_labels(path, inner, texts=texts):
                continue
            entry = file_entry(folder, inner, {}, is_walked=True, place=f"the folder {folder}")
            if entry.reason:
                yield _defect(path, entry.reason, entry.detail)
            elif texts and not has_ending(inner, (*ENDINGS, *text_table.ENDINGS, ".json")):
                yield _defect(
                    path, "not_text", "in a folder only .txt and tables are read: name the file itself, or rename it"
                )
            elif texts:
                yield from _in_file(path, root=root, texts=texts)
            else:
                yield from _in_file(path, root=root, is_table=parquet_table.is_parquet(path))
        for entry in unread:
            yield _defect(folder / entry.path, entry.reason, entry.detail)


def _only_labels(path: Path, inner: str, *, texts: TextTables | None) -> bool:
    """Return whether a file of a folder is the table that labels the others, not one that holds samples itself."""
    if not is_table_of_labels(inner):
        return False
    if texts is None:
        return not parquet_table.is_parquet(path) or _has_paths(path)
    try:
        return not _text_columns(path, shape_of(path, texts).columns, texts)
    except BROKEN:
        return False


def _in_file(
    path: Path, *, root: Path | None, texts: TextTables | None = None, is_table: bool | None = None
) -> Iterator[Input]:
    """Yield the rows of a table, or the file itself as one sample."""
    if texts and text_table.is_table(path) and path.is_file():
        yield from _in_text_table(path, root=root, texts=texts)
    elif not texts and parquet_table.is_parquet(path) if is_table is None else is_table:
        yield from _in_parquet(path, root=root)
    elif not path.exists() and not is_file(path):
        yield _defect(path, "missing_file", "no such file or folder")
    elif not is_file(path):
        yield _defect(path, "not_text" if texts else "not_an_image", "not a regular file")
    elif texts and path.suffix.lower() == ".json":
        yield _defect(path, "unreadable_table", NOT_JSON_LINES)
    elif is_table is None and path.suffix.lower() in (".csv", ".tsv", ".jsonl"):
        yield from _in_table(path, root=root)
    elif texts and texts.encoding:
        entry = with_encoding(path.parent, Entry(path=path.name, is_named=True), endings=(), otherwise=texts.encoding)
        yield Input(path=readable(str(path)), place=path.parent / entry.path)
    else:
        yield Input(path=readable(str(path)), place=path)


def _in_text_table(table: Path, *, root: Path | None, texts: TextTables) -> Iterator[Input]:
    """Yield the texts in a table, one a row, or those at the paths in its column of paths."""
    try:
        shape = shape_of(table, texts)
        names = _text_columns(table, shape.columns, texts)
    except BROKEN as error:
        yield _defect(table, "unreadable_table", one_line(error).replace("scan.encoding", "--encoding"))
        return
    if not names:
        yield from _in_table(table, root=root)
        return
    place, digits = table / place_of_rows(names, encoding=shape.encoding), digits_of(shape.num_rows)
    for number in range(shape.num_rows):
        row = place / f"{number:0{digits}d}"
        yield Input(path=readable(str(row)), place=row)


def _text_columns(table: Path, columns: list[str], texts: TextTables) -> list[str]:
    """Return the columns that make a text; none for a table that lists files.

    Raises:
        UnreadableTableError: it has neither.
    """
    try:
        return columns_of_text(columns, texts)
    except RefusedTableError as error:
        if PATH in read_columns(table):
            return []
        if problem := column_twice(columns):
            raise UnreadableTableError(problem) from error
        wanted = texts.text_columns
        expected = f"{', '.join(wanted)}, each once" if wanted else f"one called {', '.join(USUAL_COLUMNS)}"
        raise UnreadableTableError(
            f"columns {shown(columns)}; expected {expected}: --text-columns names others"
        ) from error


def _in_table(table: Path, *, root: Path | None) -> Iterator[Input]:
    """Yield the samples at the paths in a table."""
    try:
        columns = read_columns(table)
        if columns.count(PATH) != 1:
            raise UnreadableTableError(f"columns {shown(columns)}; expected one column {PATH}")
        for row in read_rows(table, columns, lists=Counter()):
            if row.problem:
                yield _defect(Path(f"{table}:{row.number}"), "unreadable_row", row.problem)
            else:
                yield _of_table(table, row.cells.get(PATH) or "", root=root)
    except BROKEN as error:
        yield _defect(table, "unreadable_table", one_line(error))


def _in_parquet(table: Path, *, root: Path | None) -> Iterator[Input]:
    """Yield the images in a table's column of images, or those at the paths in its column of paths.

    If the table has both, the images win only if their column has one of the usual NAMES.
    """
    try:
        layout = layout_of(table, stamp_of(table))
        has_paths = layout.column.lower() not in NAMES and _has_paths(table)
    except UnreadableTableError as no_images:
        if not _has_paths(table):
            yield _defect(table, "unreadable_table", f"{no_images}; or a column {PATH} of text")
            return
        has_paths = True
    except BROKEN as error:
        yield _defect(table, "unreadable_table", one_line(error))
        return
    if has_paths:
        yield from _in_table(table, root=root)
        return
    digits = len(str(max(layout.num_rows - 1, 0)))
    for number in range(layout.num_rows):
        place = table / f"{number:0{digits}d}"
        yield Input(path=readable(str(place)), place=place)


def _has_paths(table: Path | RemoteFile) -> bool:
    """Return whether a Parquet file has a column of paths."""
    try:
        schema = open_table(table).schema_arrow
        columns = as_compared(schema.names)
        return columns.count(PATH) == 1 and is_text(schema.field(columns.index(PATH)).type)
    except BROKEN:
        return False


def _of_table(table: Path, path: str, *, root: Path | None) -> Input:
    folder = table.parent if root is None else root
    if not path.strip():
        return _defect(table, "missing_file", "a row without a path")
    entry = file_entry(folder, path, {}, place=f"the folder {folder}")
    if entry.reason:
        return Input(path=readable(path), reason=entry.reason, detail=entry.detail)
    return Input(path=readable(path), place=folder / entry.path)


def _defect(path: Path | str, reason: str, detail: str) -> Input:
    return Input(path=readable(str(path)), reason=reason, detail=readable(detail))
