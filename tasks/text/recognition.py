"""Recognise a batch of texts, and find the columns of its tables that make a text."""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

from tasks.data.raw.entries import KEYS, LABEL
from tasks.data.raw.files import walk
from tasks.data.raw.label_rows import read_columns, read_rows
from tasks.data.raw.options import TextTables
from tasks.data.raw.parquet_table import TARGET_NAMES
from tasks.data.raw.text_table import (
    USUAL_COLUMNS,
    RefusedTableError,
    columns_of_text,
    is_parquet,
    is_table,
    open_table,
    shape_of,
)
from tasks.data.raw.usual_names import PATHS, companion, has_ending
from tasks.data.samples.parquet_cells import BROKEN, UnreadableTableError, layout_of, stamp_of
from tasks.text.decode import ENDINGS

MOST_TABLES = 20  # of a batch, that are looked at
NUM_ROWS = 200  # of a table, that are looked at
LEAST_WORDS = 4.0  # of a cell on average, from which a column holds texts and not names
FIRST_IDEOGRAPH = "\u2e80"  # from here on, scripts write no blanks; two characters are about a word
FEW = 0.1  # images for each text: fewer are pictures in a collection of texts


def tables_of_texts(batch: Path, options: TextTables, *, image_endings: tuple[str, ...]) -> list[Path] | None:
    """Return the tables of a batch of texts, empty where each text is a file; None for a batch of other samples.

    A batch that has files of images, or a table of images, is one of images.

    Raises:
        UnreadableTableError: the batch is a table that cannot be read.
    """
    if batch.is_file():
        if not is_table(batch) or _has_images(batch):
            return None
        try:
            return [batch] if text_columns(batch, options) else None
        except UnreadableTableError as error:
            raise UnreadableTableError(f"{batch.name}: {error}") from error
    paths = [path for path in walk(batch)[0] if not companion(path) and "/." not in f"/{path}"]
    num_images, num_texts = (sum(has_ending(path, endings) for path in paths) for endings in (image_endings, ENDINGS))
    if num_images > FEW * num_texts:
        return None
    tables = [table for path in paths if is_table(table := batch / path)][:MOST_TABLES]
    if any(map(_has_images, tables)):
        return None
    with_texts = [table for table in tables if _has_texts(table, options)]
    return with_texts if with_texts or 2 * num_texts > len(paths) else None


def text_columns(table: Path, options: TextTables) -> list[str]:
    """Return the columns that make a text: those that `options` take, or else those whose cells are several words long.

    Raises:
        UnreadableTableError: the table cannot be read.
    """
    columns = shape_of(table, options).columns
    try:
        return columns_of_text(columns, options)
    except RefusedTableError:
        if not {name.strip().lower() for name in columns}.isdisjoint(PATHS):  # it lists files
            return []
    cells = {name: [cell for row in _first_rows(table, options) if isinstance(cell := row.get(name), str)]
             for name in columns if name.strip().lower() not in {*KEYS, LABEL, *TARGET_NAMES}}  # fmt: skip
    return [
        name
        for name, held in cells.items()
        if held and (name.strip().lower() in USUAL_COLUMNS or mean(map(_num_words, held)) >= LEAST_WORDS)
    ]


def _first_rows(table: Path, options: TextTables) -> Iterator[Mapping[str, Any]]:
    if is_parquet(table):
        rows = read_rows(table, read_columns(table), lists=Counter())
        yield from (row.cells for row in islice(rows, NUM_ROWS))
        return
    opened, _ = open_table(table, options)
    for number in range(min(NUM_ROWS, len(opened))):
        try:
            yield opened.row(number)
        except UnreadableTableError:
            continue


def _num_words(cell: str) -> float:
    return len(cell.split()) + sum(character >= FIRST_IDEOGRAPH for character in cell) / 2


def _has_texts(table: Path, options: TextTables) -> bool:
    try:
        return bool(text_columns(table, options))
    except BROKEN:
        return False  # the stage `scan` reports what is wrong with it


def _has_images(table: Path) -> bool:
    try:
        return is_parquet(table) and bool(layout_of(table, stamp_of(table)))
    except BROKEN:
        return False
