"""The entries of a batch: one for everything in it that is, or should be, a sample, with its labels or its defect."""

import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tasks.data.raw.usual_names import MOST_FOLDERS, split_called
from tasks.machine.dvc_files import is_cached

# the columns that a table may have besides the path and the labels
DOMAIN = "domain"  # where a sample comes from
KEYS = ("group", DOMAIN, "split")
# facts that are read from an image's bytes, or follow from its place; a table's column of such a name is ignored
FACTS = ("batch", "path", "sample_id", "format", "mode", "width", "height", "perceptual_hash")
LABEL = "label"  # the target that folders name, and the usual name of one in a table
KNOWN = {*KEYS, *FACTS, LABEL}  # columns that are meant in any case of letters
WHOLE_FLOAT = re.compile(r"([+-]?[0-9]+)\.0+")

HIDDEN = "hidden_file"
NOT_A_SAMPLE = "not_a_sample"  # nobody meant it as one; no limit counts it


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A sample to inspect, with or without a label, or the `reason` why it cannot be used.

    `path` is relative to the batch; a row of a Parquet file is `<file>/<number>`, as if the file were a folder.
    `said` holds the label of each target, and group, domain and split where the batch gives them. `is_named` says that
    a row of a table names it: then it is meant as a sample, whatever it is called.
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
    """
    plain = unicodedata.normalize("NFC", cell.strip())
    whole = WHOLE_FLOAT.fullmatch(plain)
    return whole[1] if whole else plain


def column(name: str) -> str:
    """Return the name of a column as it is compared; a known name in lower case."""
    plain = unicodedata.normalize("NFC", name.strip())
    return plain.lower() if plain.lower() in KNOWN else plain


def targets_among(columns: Iterable[str]) -> list[str]:
    """Return the columns that may be targets."""
    return [name for name in columns if name and name not in FACTS and name not in KEYS]


def file_entry(
    root: Path, path: str, said: Mapping[str, str], *, is_walked: bool = False, place: str = "the batch"
) -> Entry:
    """Return the entry of the file `path` in `root`, or a defect if there is no such file or it lies outside of `root`.

    A link to DVC's cache is the file itself. No file is opened here.

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
    problem = _problem(root, path, place=place, is_walked=is_walked)
    if problem:
        return defect(path, *problem, said)
    if path.startswith(".") or "/." in path:
        return defect(path, HIDDEN, "its name, or the name of a folder around it, begins with a dot", said)
    return Entry(path=path, said=said)


def _problem(root: Path, path: str, *, place: str, is_walked: bool) -> tuple[str, str] | None:
    """Return the reason and the detail of what is no file of `root`."""
    try:
        if is_walked and stat.S_ISREG(os.lstat(f"{root}/{path}").st_mode):
            return None
        target = (root / path).resolve()
        if not target.is_relative_to(root.resolve()) and not _is_link_to_cache(root, path, target):
            return "outside_batch", f"a link that leaves {place}"
        if not target.exists():
            return "missing_file", "no such file"
        if not target.is_file():
            return "not_an_image", "not a regular file"
    except RuntimeError:  # Python 3.11 raises it for links in a circle
        return "missing_file", "a link that leads nowhere"
    except PermissionError:
        return "unreadable", "no permission to read the folder"
    except OSError as error:  # for example, the name is too long for any disk
        return "missing_file", error.strerror or "the path names no file"
    return None


def _is_link_to_cache(root: Path, path: str, target: Path) -> bool:
    """Return whether a file of `root`, and no folder on the way to it, is a link into DVC's cache."""
    return (root / path).parent.resolve().is_relative_to(root.resolve()) and is_cached(target, root=root)


def readable(name: str) -> str:
    """Return the name with everything in it that is not UTF-8 written as \\xNN or \\uNNNN."""
    if name.isascii():
        return name
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return name.encode("utf-8", "backslashreplace").decode("utf-8")


def walk(root: Path) -> tuple[list[str], list[Entry]]:
    """Return all files below a folder, as sorted paths relative to it, and a defect for each folder that is not read.

    A link to a folder counts as a file.
    """
    files: list[str] = []
    unread: list[Entry] = []
    for names, problems in walk_folders(root):
        files += names
        unread += problems
    return sorted(files), sorted(unread, key=lambda entry: entry.path)


def walk_folders(root: Path) -> Iterator[tuple[list[str], list[Entry]]]:
    """Yield the files of one folder at a time, as `walk` does: a folder before those in it, both in sorted order."""
    pending = [""]
    while pending:
        folder = pending.pop()
        prefix = f"{folder}/" if folder else ""
        files: list[str] = []
        folders: list[str] = []
        problems: list[Entry] = []
        if prefix.count("/") > MOST_FOLDERS:
            detail = f"more than {MOST_FOLDERS} folders around it: it is not read, move it up"
            yield [], [defect(folder, "too_deep", detail)]
            continue
        try:
            with os.scandir(root / folder) as children:
                for child in children:
                    (folders if child.is_dir(follow_symlinks=False) else files).append(f"{prefix}{child.name}")
        except PermissionError:
            problems = [defect(folder, "unreadable", "no permission to read the folder")]
        except OSError as error:  # for example, its path is longer than the system allows
            problems = [defect(folder, "unreadable", f"the folder cannot be read: {error.strerror}")]
        yield sorted(files), problems
        pending += sorted(folders, reverse=True)
