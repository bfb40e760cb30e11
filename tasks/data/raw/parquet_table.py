"""Find the entries of a Parquet file with a column of images: one entry a row, without reading an image.

Every other column of single values is a target, or is group, domain or split.
"""

import json
import logging
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.data.raw.cells import Cells, cell_text, check_number, is_nested, is_single, lists_of_labels
from tasks.data.raw.entries import NOT_A_SAMPLE, Entry, column, defect, said_in_row, targets_among
from tasks.data.samples.parquet_cells import (
    BROKEN,
    RowGroups,
    UnreadableTableError,
    layout_of,
    one_line,
    stamp_of,
)

logger = logging.getLogger("graftline")

MAGIC = b"PAR1"
ENDING = ".parquet"
# a column of such a name is meant as a target
TARGET_NAMES = {"label", "labels", "class", "classes", "category", "categories", "target", "targets", "tag", "tags"}


def is_parquet(path: Path) -> bool:
    """Return whether the file has the name and the first bytes of a Parquet file."""
    try:
        if not path.name.lower().endswith(ENDING) or not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def find_rows(file: Path, *, prefix: str) -> Iterator[Entry]:
    """Yield an entry for each row of the file, readable or not; its path is `prefix` and the row's number.

    A column of lists is read as JSON. A column of other values is no target, and has an entry with the reason.
    """
    table_path = prefix.removesuffix("/") or file.name
    try:
        layout = layout_of(file, stamp_of(file))
        yield from label_rows(file, table_path=table_path, groups=layout, others={layout.column}, prefix=prefix)
    except BROKEN as error:
        yield defect(table_path, "unreadable_table", one_line(error))


def label_rows(
    file: Path, *, table_path: str, groups: RowGroups, others: Collection[str], prefix: str
) -> Iterator[Entry]:
    """Yield an entry for each row, with its labels from all columns but the `others`, which hold the sample.

    Raises one of BROKEN, before the first entry, where the columns cannot be read.
    """
    schema = pq.read_schema(file)
    check_number(schema.names)
    names = _class_names(schema)
    fields = [field for field in schema if field.name not in others]
    of_labels = lists_of_labels(file, [field.name for field in fields if targets_among([column(field.name)])])
    columns = {field.name: column(field.name) for field in fields if is_single(field.type) or field.name in of_labels}
    _check_once(list(columns.values()))
    reader = Cells(file, list(columns))
    if not groups.num_rows:
        raise UnreadableTableError("the table has no rows")
    several = [field.name for field in fields if is_nested(field.type) and field.name not in of_labels]
    yield from list_columns(several, table=table_path, has_targets=bool(targets_among(columns.values())))
    digits = digits_of(groups.num_rows)
    for group, numbers in enumerate(groups.ranges()):
        rows = reader.in_group(group)
        for number in numbers:
            path = f"{prefix}{number:0{digits}d}"
            try:
                cells = {columns[name]: cell_text(cell, names.get(name)) for name, cell in next(rows).items()}
                yield Entry(path=path, said=said_in_row(cells), is_named=True)
            except ValueError as error:
                yield defect(path, "unreadable_row", one_line(error))


def digits_of(num_rows: int) -> int:
    """Return the digits of the number of a row, the same for all rows, so that their paths sort in their order."""
    return len(str(max(num_rows - 1, 0)))


def list_columns(names: Sequence[str], *, table: str, has_targets: bool) -> Iterator[Entry]:
    """Yield an entry for each column whose lists are no labels: a defect where no other column is a target.

    Args:
        table: the path of the table in its batch.
        has_targets: whether the table has a column of single values.
    """
    for name in names:
        said = f"column {name} holds several values a row; a target has one: give each its own column"
        is_meant = not has_targets and name.strip().lower() in TARGET_NAMES
        logger.warning("warning: %s: %s", table, said)
        if is_meant:
            yield defect(table, "unreadable_table", said)
        else:
            yield defect(f"{table}:{name}", NOT_A_SAMPLE, said)


def _check_once(columns: Sequence[str]) -> None:
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise UnreadableTableError(f"column {twice[0]} appears twice")


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of numbered classes by column, where Hugging Face datasets wrote them into the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        own = {name: feature.get("feature", feature) for name, feature in features.items() if isinstance(feature, dict)}
        names_by_column = {
            name: feature["names"] for name, feature in own.items() if isinstance(feature, dict) and "names" in feature
        }
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return {}
    return {
        name: names
        for name, names in names_by_column.items()
        if isinstance(names, list) and all(isinstance(each, str) for each in names)
    }
