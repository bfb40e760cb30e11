"""Find the entries of a batch of class folders, `<batch>/<class>/…/<image>`; the outermost folder is the label."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tasks.data.raw.entries import Entry, defect, file_entry, readable, text

TARGET = "label"


def find_files(batch: Path, files: Iterable[str]) -> Iterator[Entry]:
    """Yield an entry for each of the batch's `files`, which are paths as `walk` returns them."""
    for path in files:
        folder, _, rest = path.partition("/")
        label = text(readable(folder))
        if rest and label:
            yield file_entry(batch, path, {TARGET: label}, is_walked=True)
        else:
            entry = file_entry(batch, path, {}, is_walked=True)
            yield entry if entry.reason else defect(path, "label_missing", "the file is in no class folder")


def find_empty_folders(batch: Path, filled: Iterable[str]) -> Iterator[Entry]:
    """Yield a defect for each class folder that contains no path of `filled`."""
    names = {path.partition("/")[0] for path in filled}
    for child in sorted(batch.iterdir()):
        if child.is_dir() and child.name not in names:
            yield defect(
                child.name, "empty_class_folder", "the folder contains no file", {TARGET: text(readable(child.name))}
            )
