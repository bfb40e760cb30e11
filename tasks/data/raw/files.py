"""Find the files of a batch, and those that can be samples: it comes from a stranger, and may hold links."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from tasks.data.raw.entries import HIDDEN, Entry, defect, readable
from tasks.data.raw.usual_names import MOST_FOLDERS
from tasks.data.samples.packed import INDEX, Pack, pack_in, packed_file
from tasks.machine.dvc_files import is_cached


def walk(root: Path) -> tuple[list[str], list[Entry]]:
    """Return all files below a folder, as sorted paths relative to it, and a defect for each folder that is not read.

    A link to a folder counts as a file. A packed file counts as itself, and the shards do not count.

    Raises:
        ValueError: a packed folder lacks a shard, or its index cannot be read.
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
    packed: dict[str, tuple[Pack, str]] = {}  # the folders in a pack that are pending, with the path of its own folder
    while pending:
        folder = pending.pop()
        prefix = f"{folder}/" if folder else ""
        files: set[str] = set()
        folders: set[str] = set()
        problems: list[Entry] = []
        if prefix.count("/") > MOST_FOLDERS:
            detail = f"more than {MOST_FOLDERS} folders around it: it is not read, move it up"
            yield [], [defect(folder, "too_deep", detail)]
            continue
        inside = packed.pop(folder, None)
        try:
            with os.scandir(root / folder) as found:
                for child in found:
                    (folders if child.is_dir(follow_symlinks=False) else files).add(child.name)
        except PermissionError:
            problems = [defect(folder, "unreadable", "no permission to read the folder")]
        except OSError as error:  # for example, its path is longer than the system allows
            if not (inside and isinstance(error, FileNotFoundError)):
                problems = [defect(folder, "unreadable", f"the folder cannot be read: {error.strerror}")]
        if pack := pack_in(root / folder, files):
            if inside:
                raise ValueError(
                    f"{root / folder} is packed, and a pack around it holds files of it, too: unpack {root / folder}"
                )
            files -= pack.own_files
            inside = pack, folder
        if inside:
            pack, around = inside
            children = pack.children(folder.removeprefix(around).removeprefix("/"))
            if twice := sorted(files & children.files):
                raise ValueError(f"{prefix}{twice[0]} lies beside {prefix}{INDEX}, which holds it too: remove one")
            files |= children.files
            folders |= children.folders
            packed |= {f"{prefix}{name}": inside for name in children.folders}
        yield sorted(f"{prefix}{name}" for name in files), problems
        pending += sorted((f"{prefix}{name}" for name in folders), reverse=True)


def file_entry(
    root: Path, path: str, said: Mapping[str, str], *, is_walked: bool = False, place: str = "the batch"
) -> Entry:
    """Return the entry of the file `path` in `root`, or a defect if there is no such file or it lies outside of `root`.

    A link to DVC's cache is the file itself. A packed file is there too. No file is opened here.

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
    if problem and not (problem[0] == "missing_file" and packed_file(root / path)):
        return defect(path, *problem, said)
    if path.startswith(".") or "/." in path:
        return defect(path, HIDDEN, "its name, or the name of a folder around it, begins with a dot", said)
    return Entry(path=path, said=said)


def _problem(root: Path, path: str, *, place: str, is_walked: bool) -> tuple[str, str] | None:
    """Return the reason and the detail why a path is no file of `root`."""
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
