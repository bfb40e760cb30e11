"""The entries of a batch: one for everything in it that is, or should be, a sample, with its labels or its defect."""

import os
import stat
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

# the columns that a table may have besides the path and the labels
KEYS = ("group", "domain", "split")
# facts that are read from an image's bytes, or follow from its place; a table's column of such a name is ignored
FACTS = ("batch", "path", "sample_id", "format", "mode", "width", "height", "perceptual_hash")

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "heldout": "heldout", "held-out": "heldout", "held_out": "heldout", "test": "heldout",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A sample to inspect, or the `reason` why it cannot be used.

    `path` is relative to the batch; a row of a Parquet file is `<file>/<number>`, as if the file were a folder.
    `said` holds the label of each target, and group, domain and split where the batch gives them.
    """

    path: str
    said: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    detail: str = ""


def defect(path: str, reason: str, detail: str, said: Mapping[str, str] | None = None) -> Entry:
    return Entry(path=readable(path), said=said or {}, reason=reason, detail=readable(detail))


def said_in_row(row: Mapping[str, str | None]) -> dict[str, str]:
    """Return the cells of a table's row that are not blank, by column and without spaces around them.

    Columns named in FACTS are left out.

    Raises:
        ValueError: the cell `split` is not the name of a split.
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
    """Return a label as it is compared: without spaces around it, and with accents in one form (Unicode NFC)."""
    return unicodedata.normalize("NFC", label.strip())


def file_entry(
    root: Path, path: str, said: Mapping[str, str], *, is_walked: bool = False, place: str = "the batch"
) -> Entry:
    """Return the entry of the file `path` in `root`, or a defect if there is no such file or it lies outside of `root`.

    No file is opened here.

    Args:
        path: from an untrusted table, or from `walk`.
        is_walked: `path` is from `walk`, so that no folder on the way is a link.
        place: the name of `root` in the defect's detail.
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
        return defect(path, "hidden_file", "its name, or the name of a folder around it, begins with a dot", said)
    try:
        if is_walked and stat.S_ISREG(os.lstat(root / path).st_mode):
            return Entry(path=path, said=said)
        target = (root / path).resolve()
        if not target.is_relative_to(root.resolve()):
            return defect(path, "outside_batch", f"a link that leaves {place}", said)
        if not target.exists():
            return defect(path, "missing_file", _missing_detail(path), said)
        if not target.is_file():
            return defect(path, "not_an_image", "not a regular file", said)
    except RuntimeError:  # Python 3.11 raises it for links in a circle
        return defect(path, "missing_file", "a link that leads nowhere", said)
    except PermissionError:
        return defect(path, "unreadable", "no permission to read the folder", said)
    except OSError as error:  # for example, the name is too long for any disk
        return defect(path, "missing_file", error.strerror or "the path names no file", said)
    return Entry(path=path, said=said)


def _missing_detail(path: str) -> str:
    return "no such file" + (": expected '/' between folders" if "\\" in path else "")


def readable(name: str) -> str:
    """Return the name with everything in it that is not UTF-8 written as \\xNN or \\uNNNN."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return name.encode("utf-8", "backslashreplace").decode("utf-8")


def walk(root: Path) -> tuple[list[str], list[str]]:
    """Return all files below a folder, and the folders that cannot be read, as sorted paths relative to the folder.

    A link to a folder counts as a file.
    """
    closed: list[str] = []
    files: list[str] = []
    for parent, folders, names in os.walk(root, onerror=lambda error: closed.append(error.filename)):
        inside = os.path.relpath(parent, root)
        prefix = "" if inside == "." else f"{inside}/"
        links = [name for name in folders if os.path.islink(f"{parent}/{name}")]  # noqa: PTH114  a Path is slower
        files += [f"{prefix}{name}" for name in names + links]
    return sorted(files), sorted(os.path.relpath(folder, root) for folder in closed)
