"""A batch as class folders: `<batch>/<class>/…/<picture>`; the name of the folder is the label."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class FoundFile:
    """A file of a batch: its path inside the batch and its label, or the reason why it cannot be a sample."""

    path: str
    label: str | None
    reason: str = ""
    detail: str = ""


def find_files(batch: Path) -> Iterator[FoundFile]:
    """Everything in the batch, sorted by path: a file each, and each class folder that has none."""
    root = batch.resolve()
    for child in sorted(batch.iterdir()):
        if not child.is_dir():
            yield _defect(child.name, None, reason="label_missing", detail="the file is in no class folder")
            continue
        files, closed = _walk(child)
        for folder in closed:
            path = str(folder.relative_to(batch))
            yield _defect(path, child.name, reason="unreadable", detail="the folder may not be read")
        if not files and not closed:
            yield _defect(child.name, child.name, reason="empty_class_folder", detail="no file in it")
        for file in files:
            yield _checked(file, path=str(file.relative_to(batch)), label=child.name, root=root)


def _walk(folder: Path) -> tuple[list[Path], list[Path]]:
    """All files below a folder (links to folders count as files), and the folders that may not be read; sorted."""
    closed: list[Path] = []
    files: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=lambda error: closed.append(Path(error.filename))):
        links = [name for name in folders if Path(place, name).is_symlink()]
        files += [Path(place, name) for name in names + links]
    return sorted(files), sorted(closed)


def _checked(file: Path, *, path: str, label: str, root: Path) -> FoundFile:
    if not _is_text(path):
        return _defect(path, label, reason="name_not_text", detail="the file's name is not UTF-8")
    if any(part.startswith(".") for part in Path(path).parts):
        return _defect(
            path, label, reason="hidden_file", detail="its name, or that of a folder around it, begins with a dot"
        )
    try:
        target = file.resolve()
    except (OSError, RuntimeError):  # RuntimeError is what Python 3.11 says of a circle
        return _defect(path, label, reason="missing_file", detail="a link that leads nowhere")
    if not target.is_relative_to(root):
        return _defect(path, label, reason="outside_batch", detail="a link that leaves the batch")
    if not target.exists():
        return _defect(path, label, reason="missing_file", detail="a link to nothing")
    if not target.is_file():
        return _defect(path, label, reason="not_an_image", detail="not a regular file")
    return FoundFile(path=path, label=label)


def _defect(path: str, label: str | None, *, reason: str, detail: str) -> FoundFile:
    return FoundFile(path=_readable(path), label=label and _readable(label), reason=reason, detail=detail)


def _is_text(name: str) -> bool:
    return _readable(name) == name


def _readable(name: str) -> str:
    """The name with bytes that are not UTF-8 written as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
