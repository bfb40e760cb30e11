"""Find the images in the folders, files and tables (CSV, Parquet) that a person names, as a stream.

The paths in a table come from a stranger. They lead to files below the table's folder, or below the given `root`, and
nowhere else.
"""

import csv
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tasks.data.raw import label_table, parquet_table
from tasks.data.raw.entries import file_entry, readable, text
from tasks.data.samples.contents import read_content
from tasks.data.samples.defects import DefectError
from tasks.data.samples.parquet_cells import (
    BROKEN,
    NAMES,
    UnreadableTableError,
    layout_of,
    one_line,
    open_table,
    stamp_of,
)

PATH = label_table.PATH
ROWS_AT_ONCE = 1024  # paths read together from a Parquet file
LONGEST_ROW = 1_000_000  # characters in a line of CSV


@dataclass(frozen=True, kw_only=True)
class Input:
    """An image to classify, or the `reason` why it cannot be one.

    `path` is its name for people. `place` is where its bytes are (see `tasks.data.samples.contents`); it is None if
    there is a `reason`.
    """

    path: str
    place: Path | None = None
    reason: str = ""
    detail: str = ""


def find_inputs(
    named: Iterable[Path], *, root: Path | None = None, left_out: Callable[[Path], bool] = lambda path: False
) -> Iterator[Input]:
    """Yield every image below the named paths, in their order; inside a folder in sorted order.

    Anything that cannot be an image is yielded with a reason. Paths for which `left_out` is true are skipped.
    """
    for path in named:
        try:
            is_folder = path.is_dir()
        except OSError as error:  # for example, the name is too long for any disk
            yield _defect(path, "missing_file", error.strerror or one_line(error))
            continue
        if is_folder:
            yield from _in_folder(path, root=root, left_out=left_out)
        else:
            yield from _in_file(path, root=root)


def read_input(item: Input, *, max_file_bytes: int) -> bytes:
    """Return the bytes of an input that has a place. Raises DefectError if it cannot be read or is too large."""
    assert item.place is not None
    try:
        size = item.place.stat().st_size
    except OSError:
        size = 0  # a row of a table has no size on disk; if the file is gone, reading it raises the error
    try:
        content = b"" if size > max_file_bytes else read_content(item.place)
    except FileNotFoundError:
        raise DefectError("missing_file", "the file was removed after it was found") from None
    except UnreadableTableError as error:
        raise DefectError("unreadable_row", str(error)) from error
    except OSError as error:
        raise DefectError("unreadable", error.strerror or str(error)) from error
    if (size := max(size, len(content))) > max_file_bytes:
        raise DefectError("too_many_bytes", f"{size} bytes, expected at most {max_file_bytes}")
    return content


def _in_folder(folder: Path, *, root: Path | None, left_out: Callable[[Path], bool]) -> Iterator[Input]:
    """Yield the images of a folder, with the names of one folder at a time in memory.

    Hidden files are yielded with a reason. A `labels.csv` is skipped: it only labels its neighbours.
    """
    closed: list[OSError] = []
    for place, folders, names in os.walk(folder, onerror=closed.append):
        folders.sort()
        inside = Path(place)
        links = [name for name in folders if (inside / name).is_symlink()]
        for name in sorted(names + links):
            path = inside / name
            inner = path.relative_to(folder).as_posix()
            if left_out(path) or inner == label_table.NAME:
                continue
            entry = file_entry(folder, inner, {}, is_walked=True, place=f"the folder {folder}")
            if entry.reason:
                yield _defect(path, entry.reason, entry.detail)
            else:
                yield from _in_file(path, root=root, is_table=parquet_table.is_parquet(path))
        while closed:
            yield _defect(Path(closed.pop().filename), "unreadable", "the folder may not be read")


def _in_file(path: Path, *, root: Path | None, is_table: bool | None = None) -> Iterator[Input]:
    """Yield the rows of a table, or the file itself as one image."""
    if parquet_table.is_parquet(path) if is_table is None else is_table:
        yield from _in_parquet(path, root=root)
    elif not path.exists():
        yield _defect(path, "missing_file", "no such file or folder")
    elif not path.is_file():
        yield _defect(path, "not_an_image", "not a regular file")
    elif is_table is None and path.suffix.lower() in (".csv", ".tsv"):
        yield from _in_csv(path, root=root)
    else:
        yield Input(path=readable(str(path)), place=path)


def _in_csv(table: Path, *, root: Path | None) -> Iterator[Input]:
    try:
        # surrogateescape keeps bytes that are not UTF-8 inside their own row
        file = table.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        yield _defect(table, "unreadable", one_line(error))
        return
    with file:
        first = file.readline(label_table.LONGEST_HEADER)
        file.seek(0)
        rows = csv.reader(
            iter(lambda: file.readline(LONGEST_ROW), ""), delimiter=label_table.delimiter(first), strict=True
        )
        try:
            header = [text(name) for name in next(rows, [])]
        except csv.Error as error:
            header = [str(error)]
        if header.count(PATH) != 1:
            names = ", ".join(header)[:200]
            yield _defect(table, "unreadable_table", f"columns {names}; expected one column {PATH}")
            return
        column = header.index(PATH)
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:
                yield _defect(Path(f"{table}:{rows.line_num}"), "unreadable_row", str(error))
                continue
            if row is None:
                return
            if len(row) != len(header):
                if row:  # an empty line is not a row
                    detail = f"{len(row)} cells, expected {len(header)}"
                    yield _defect(Path(f"{table}:{rows.line_num}"), "unreadable_row", detail)
                continue
            yield _of_table(table, row[column], root=root)


def _in_parquet(table: Path, *, root: Path | None) -> Iterator[Input]:
    """Yield the images in a table's column of images, or those at the paths in its column of paths.

    If the table has both, the images win only if their column has one of the usual NAMES.
    """
    try:
        layout = layout_of(table, stamp_of(table))
        if layout.column.lower() not in NAMES and _has_paths(open_table(table).schema_arrow):
            yield from _paths_in_parquet(table, root=root)
            return
        digits = len(str(max(layout.num_rows - 1, 0)))
        for number in range(layout.num_rows):
            place = table / f"{number:0{digits}d}"
            yield Input(path=readable(str(place)), place=place)
    except UnreadableTableError as no_images:
        yield from _paths_in_parquet(table, root=root, fault=f"{no_images}; or a column {PATH} of text")
    except BROKEN as error:
        yield _defect(table, "unreadable_table", one_line(error))


def _paths_in_parquet(table: Path, *, root: Path | None, fault: str = "") -> Iterator[Input]:
    """Yield the images at the paths in the table's column; if there is no such column, `fault` is the detail."""
    try:
        file = open_table(table)
        if not _has_paths(file.schema_arrow):
            yield _defect(table, "unreadable_table", fault)
            return
        for rows in file.iter_batches(ROWS_AT_ONCE, columns=[PATH], use_threads=False):
            for path in parquet_table.cells_of(rows.column(0)):
                yield _of_table(table, (path or b"").decode("utf-8", "surrogateescape"), root=root)
    except BROKEN as error:
        yield _defect(table, "unreadable_table", one_line(error))


def _has_paths(schema: pa.Schema) -> bool:
    return schema.names.count(PATH) == 1 and parquet_table.is_text(schema.field(PATH).type)


def _of_table(table: Path, path: str, *, root: Path | None) -> Input:
    folder = table.parent if root is None else root
    if not path.strip():
        return _defect(table, "missing_file", "a row without a path")
    entry = file_entry(folder, path, {}, place=f"the folder {folder}")
    if entry.reason:
        return Input(path=readable(path), reason=entry.reason, detail=entry.detail)
    return Input(path=readable(path), place=folder / entry.path)


def _defect(path: Path, reason: str, detail: str) -> Input:
    return Input(path=readable(str(path)), reason=reason, detail=readable(detail))
