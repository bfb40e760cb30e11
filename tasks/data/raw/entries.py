"""The entries of a batch: one for everything in it that is, or should be, a sample, with its labels or its defect."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tasks.data.raw.usual_names import split_called
from tasks.machine.names import without_commands

# the columns that a table may have besides the path and the labels
DOMAIN = "domain"  # where a sample comes from
KEYS = ("group", DOMAIN, "split")
# facts that are read from an image's bytes, or follow from its place; a table's column of such a name is ignored
FACTS = ("batch", "path", "sample_id", "format", "mode", "width", "height", "perceptual_hash")
LABEL = "label"  # the target that folders name, and the usual name of one in a table
KNOWN = {*KEYS, *FACTS, LABEL}  # columns that are meant in any case of letters
WHOLE_FLOAT = re.compile(r"([+-]?[0-9]+)\.0+")

HIDDEN = "hidden_file"
NOT_A_SAMPLE = "not_a_sample"  # a file that is not meant as a sample; no limit counts it


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A sample to inspect, with or without a label, or the `reason` why it cannot be used.

    `path` is relative to the batch; a row of a Parquet file is `<file>/<number>`, as if the file were a folder.
    `said` holds the label of each target, and group, domain and split where the batch gives them. `is_named` is
    whether a row of a table names it: then it is meant as a sample, whatever its name.
    """

    path: str
    said: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    detail: str = ""
    is_named: bool = False


def defect(path: str, reason: str, detail: str, said: Mapping[str, str] | None = None) -> Entry:
    return Entry(path=readable(path), said=said or {}, reason=reason, detail=readable(detail))


def said_in_row(row: Mapping[str, str | None]) -> dict[str, str]:
    """Return the cells of a table's row that are not blank, by column, as they are compared.

    Columns named in FACTS are left out.

    Raises:
        ValueError: the cell `split` is not the name of a split.
    """
    cells = {name: text(cell) for name, cell in row.items() if cell is not None}
    said = {name: cell for name, cell in cells.items() if cell and name and name not in FACTS}
    if "split" in said:
        split = split_called(said["split"])
        if split is None:
            raise ValueError(f"split is {said['split']!r}, expected train, val, heldout or nothing")
        said["split"] = split
    return said


def text(cell: str) -> str:
    """Return a label as it is compared, in every layout.

    It has no spaces around it, accents in one form (Unicode NFC), and 1.0 is 1: programs write whole numbers both ways.
    Control characters, which a terminal would obey, are escaped, such as \\x1b.
    """
    plain = unicodedata.normalize("NFC", without_commands(cell.strip()))
    whole = WHOLE_FLOAT.fullmatch(plain)
    return whole[1] if whole else plain


def column(name: str) -> str:
    """Return the name of a column as it is compared; a known name in lower case, with escapes as in `text`."""
    plain = unicodedata.normalize("NFC", without_commands(name.strip()))
    return plain.lower() if plain.lower() in KNOWN else plain


def targets_among(columns: Iterable[str]) -> list[str]:
    """Return the columns that may be targets."""
    return [name for name in columns if name and name not in FACTS and name not in KEYS]


def readable(name: str) -> str:
    """Return the name; bytes that are not UTF-8 are written as \\xNN or \\uNNNN."""
    if name.isascii():
        return name
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return name.encode("utf-8", "backslashreplace").decode("utf-8")
