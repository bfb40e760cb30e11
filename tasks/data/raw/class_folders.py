"""Find the entries of a batch of class folders, `<batch>/<class>/…/<image>`; the outermost folder is the label.

A folder for each split may stand around the class folders, or in each of them.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from tasks.data.raw.entries import LABEL, Entry, defect, readable, text
from tasks.data.raw.files import file_entry
from tasks.data.raw.usual_names import companion, split_called


def find_files(batch: Path, files: Iterable[str], *, base: str, splits: Mapping[str, str]) -> Iterator[Entry]:
    """Yield an entry for each of the batch's `files`, which are paths as `walk` returns them.

    A file in no class folder has no label.

    Args:
        base: the path of the folder that holds the class folders, with a slash behind it, or "".
        splits: the folders in it that hold class folders themselves, with the names of their splits.
    """
    label_of = cache(lambda folder: text(readable(folder)))
    for path in files:
        folder, _, rest = path.removeprefix(base).partition("/")
        if folder in splits and rest:
            folder, _, rest = rest.partition("/")
        label = label_of(folder) if rest and path.startswith(base) else ""
        yield file_entry(batch, path, {LABEL: label} if label else {}, is_walked=True)


def find_empty_folders(batch: Path, filled: Iterable[str], *, base: str, splits: Iterable[str]) -> Iterator[Entry]:
    """Yield a defect for each class folder that contains no path of `filled`."""
    paths = list(filled)
    for place in (base, *(f"{base}{split}/" for split in splits)):
        names = {path.removeprefix(place).partition("/")[0] for path in paths if path.startswith(place)}
        for child in sorted((batch / place).iterdir()) if (batch / place).is_dir() else []:
            is_hidden = child.name.startswith(".") or companion(f"{child.name}/")
            if child.is_dir() and child.name not in names and not is_hidden:
                said = {} if place == base and split_called(child.name) else {LABEL: text(readable(child.name))}
                yield defect(f"{place}{child.name}", "empty_class_folder", "the folder contains no file", said)


def split_folders(files: Iterable[str], *, base: str) -> dict[str, str]:
    """Return the folders in `base` that are the level of the split, with the names of their splits.

    A folder with the name of a split that stands beside class folders is the split if it holds folders of their names,
    or if its name is `test` and it holds no folders: pictures to judge by, without labels. Else it is a class, such as
    the train among vehicles.

    Raises:
        ValueError: a folder may be either.
    """
    folders = _inside(files, base=base)
    called = {name: split for name in folders if (split := split_called(name))}
    others = {name.lower() for name in folders if name not in called}
    if not called or not others:
        return called
    deep = {name: {folder.lower() for folder in folders[name]} for name in called if folders[name]}
    beside = {folder.lower() for name in folders if name not in called for folder in folders[name]}
    found = {}
    for name, split in called.items():
        if name in deep and deep[name] & beside:  # its folders are those of the classes, so it is one
            continue
        alike = others.union(*(inner for other, inner in deep.items() if other != name))
        if name in deep and not deep[name] & alike:
            raise ValueError(
                f"the folder {name!r} holds the folders {_named(deep[name])} and stands beside {_named(others)}: if it "
                f"is the split, move {_named(others)} into a folder called after a split too; if it is a class, move "
                "its files up, out of these folders"
            )
        if name in deep or split == "heldout":
            found[name] = split
    if any(name in deep for name in found):
        return called
    return found


def has_inner_splits(files: Iterable[str], *, base: str) -> bool:
    """Return whether each class folder holds a folder for each split, and nothing else."""
    folders = _inside(files, base=base, is_whole=True)
    inner = set().union(*folders.values()) if folders else set()
    return bool(inner) and all(folders.values()) and all(split_called(name) for name in inner)


def _inside(files: Iterable[str], *, base: str, is_whole: bool = False) -> dict[str, set[str]]:
    """Return the folders in `base`, each with the folders in it; "" stands for a file where that is_whole."""
    folders: dict[str, set[str]] = {}
    filled = {
        path.removeprefix(base).rpartition("/")[0]
        for path in files
        if path.startswith(base) and "/." not in f"/{path}" and not companion(path)
    }
    for path in filled:
        folder, *inner = path.split("/")
        if folder:
            folders.setdefault(folder, set()).update(inner[:1] or [""] * is_whole)
    return folders


def _named(names: Iterable[str]) -> str:
    first, more = sorted(names)[:3], len(set(names)) - 3
    return ", ".join(map(repr, first)) + f" and {more} more" * (more > 0)
