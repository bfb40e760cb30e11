"""What came in: an entry for each thing in a batch that is, or was meant to be, a sample; what is said of it, or its defect."""

import os
import stat
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

# what a table may say of a sample besides its labels
KEYS = ("group", "domain", "split")
# what is read from a picture's bytes, or follows from where it lies; a table's column of such a name is passed over
FACTS = ("batch", "path", "sample_id", "format", "mode", "width", "height", "perceptual_hash")

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "heldout": "heldout", "held-out": "heldout", "held_out": "heldout", "test": "heldout",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A sample to be looked at, or the `reason` why it cannot be one.

    `path` is that inside the batch; a row of a Parquet file is `<file>/<number>`, as though the file were a folder.
    `said` holds the labels by target, and group, domain and split where they are given.
    """

    path: str
    said: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    detail: str = ""


def defect(path: str, reason: str, detail: str, said: Mapping[str, str] | None = None) -> Entry:
    return Entry(path=readable(path), said=said or {}, reason=reason, detail=readable(detail))


def said_in_row(row: Mapping[str, str | None]) -> dict[str, str]:
    """The cells of a table's row that say something, spaces around them removed; columns named in FACTS are left out.

    Raises ValueError for a split that is none.
    """
    cells = {text(name): text(cell) for name, cell in row.items() if cell is not None}
    said = {name: cell for name, cell in cells.items() if cell and name and name not in FACTS}
    if "split" in said:
        split = SPLIT_NAMES.get(said["split"].lower())
        if split is None:
            raise ValueError(f"split is {said['split']!r}, expected train, val, heldout or nothing")
        said["split"] = split
    return said


def text(label: str) -> str:
    """A label as it is compared: without spaces around it, and with accents in one form (Unicode NFC)."""
    return unicodedata.normalize("NFC", label.strip())


def file_entry(
    root: Path, path: str, said: Mapping[str, str], *, is_walked: bool = False, place: str = "the batch"
) -> Entry:
    """The entry of the file `path` in `root`, which a defect calls `place`; a defect where it is none, or lies outside.

    `path` comes from a stranger's table, or from `walk` (then no folder on the way is a link): nothing is opened here.
    """
    if readable(path) != path:
        return defect(path, "name_not_text", "the file's name is not UTF-8", said)
    if not is_walked:
        parts = PurePosixPath(path).parts
        if path.startswith("/") or ".." in parts:
            return defect(path, "outside_batch", f"expected a path inside {place}, without '..'", said)
        if not parts or "\0" in path:
            return defect(path, "missing_file", "the path names no file", said)
        path = str(PurePosixPath(path))
    if path.startswith(".") or "/." in path:
        return defect(path, "hidden_file", "its name, or that of a folder around it, begins with a dot", said)
    try:
        if is_walked and stat.S_ISREG(os.lstat(root / path).st_mode):
            return Entry(path=path, said=said)
        target = (root / path).resolve()
        if not target.is_relative_to(root.resolve()):
            return defect(path, "outside_batch", f"a link that leaves {place}", said)
        if not target.exists():
            return defect(path, "missing_file", _where_else(path), said)
        if not target.is_file():
            return defect(path, "not_an_image", "not a regular file", said)
    except RuntimeError:  # what Python 3.11 says of links in a circle
        return defect(path, "missing_file", "a link that leads nowhere", said)
    except PermissionError:
        return defect(path, "unreadable", "the folder may not be read", said)
    except OSError as error:  # a name too long for any disk, among others
        return defect(path, "missing_file", error.strerror or "the path names no file", said)
    return Entry(path=path, said=said)


def _where_else(path: str) -> str:
    return "no such file" + (": expected '/' between folders" if "\\" in path else "")


def readable(name: str) -> str:
    """The name with what is not UTF-8 in it written as \\xNN, or \\uNNNN."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return name.encode("utf-8", "backslashreplace").decode("utf-8")


def walk(root: Path) -> tuple[list[str], list[str]]:
    """All files below a folder (links to folders count as files), and the folders that may not be read: their paths
    inside it, sorted."""
    closed: list[str] = []
    files: list[str] = []
    for place, folders, names in os.walk(root, onerror=lambda error: closed.append(error.filename)):
        inside = os.path.relpath(place, root)
        prefix = "" if inside == "." else f"{inside}/"
        links = [name for name in folders if os.path.islink(f"{place}/{name}")]  # noqa: PTH114  a Path costs more than the file
        files += [f"{prefix}{name}" for name in names + links]
    return sorted(files), sorted(os.path.relpath(each, root) for each in closed)
