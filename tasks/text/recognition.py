"""Recognise a batch of texts, and tell which columns of its tables make a text."""

from collections import Counter
from itertools import islice
from pathlib import Path
from statistics import mean

from tasks.data.raw.entries import KEYS, LABEL, walk
from tasks.data.raw.label_rows import PATH, read_columns, read_rows
from tasks.data.raw.parquet_table import ENDING as PARQUET
from tasks.data.raw.parquet_table import TARGET_NAMES
from tasks.data.raw.usual_names import TABLE_ENDINGS, companion, has_ending
from tasks.data.samples.parquet_cells import BROKEN, layout_of, stamp_of
from tasks.text.decode import ENDINGS

USUAL = ("text", "sentence", "content", "body", "message")
MOST_TABLES = 20  # of a batch, that are looked at
NUM_ROWS = 200  # of a table, that are looked at
LEAST_WORDS = 4.0  # of a cell on average, from which a column holds texts and not names
FIRST_IDEOGRAPH = "\u2e80"  # from here on, scripts write no blanks; two characters are about a word
FEW = 0.1  # images for each text: fewer are pictures in a collection of texts


def tables_of_texts(batch: Path, *, image_endings: tuple[str, ...]) -> list[Path] | None:
    """Return the tables of a batch of texts, empty where each text is a file; None for a batch of other samples.

    A batch that has files of images, or a table of images, is one of images.
    """
    if batch.is_file():
        return [batch] if _columns(batch) else None
    paths = [path for path in walk(batch)[0] if not companion(path) and "/." not in f"/{path}"]
    num_images, num_texts = (sum(has_ending(path, endings) for path in paths) for endings in (image_endings, ENDINGS))
    if num_images > FEW * num_texts:
        return None
    tables = [batch / path for path in paths if has_ending(path, TABLE_ENDINGS)][:MOST_TABLES]
    if any(_has_images(table) for table in tables):
        return None
    with_texts = [table for table in tables if _columns(table)]
    return with_texts if with_texts or 2 * num_texts > len(paths) else None


def text_columns(table: Path) -> list[str] | None:
    """Return the columns that make a text; None where one column has a usual name, so that none need be named."""
    columns = _columns(table)
    return None if len([name for name in columns if name.lower() in USUAL]) == 1 else columns


def _columns(table: Path) -> list[str]:
    """Return the columns of a table that have a usual name, or else those whose cells are several words long."""
    try:
        if not has_ending(table.name, TABLE_ENDINGS) or _has_images(table):
            return []
        columns = read_columns(table)
        if usual := [name for name in columns if name.lower() in USUAL]:
            return usual
        if PATH in columns:  # it lists files
            return []
        rows = [row.cells for row in islice(read_rows(table, columns, lists=Counter()), NUM_ROWS)]
    except BROKEN:
        return []  # the stage `scan` says what is wrong with it
    cells = {
        name: [cell for row in rows if (cell := row.get(name))]
        for name in columns
        if name not in KEYS and name.lower() not in {LABEL, *TARGET_NAMES}
    }
    return [name for name, held in cells.items() if held and mean(map(_num_words, held)) >= LEAST_WORDS]


def _num_words(cell: str) -> float:
    return len(cell.split()) + sum(character >= FIRST_IDEOGRAPH for character in cell) / 2


def _has_images(table: Path) -> bool:
    try:
        return has_ending(table.name, (PARQUET,)) and bool(layout_of(table, stamp_of(table)))
    except BROKEN:
        return False
