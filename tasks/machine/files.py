"""Write files that are whole or absent: content is written beside its place and moves there once it is complete."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FILE_MODE = 0o644  # safetensors makes files that only their owner can read


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; it becomes `path` when the block ends well, and is removed when it fails.

    It lies in a folder beside `path` that is made anew and that only its owner can enter: a link that a stranger
    planted there is removed, never followed.

    Raises:
        ValueError: `path` is not a regular file. A device such as /dev/null would be replaced.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file: choose a regular file, or a path that does not exist yet")
    with _folder_beside(path, mode=0o700) as beside:
        file = beside / path.name
        yield file
        file.chmod(FILE_MODE)
        fsync(file)
        file.replace(path)
        fsync(path.parent)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it replaces `path` when the block ends well, and is removed when it fails.

    Raises:
        ValueError: `path` is a file, or a link.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise ValueError(f"{path} is a file or a link, expected a folder: remove it, or choose another path")
    with _folder_beside(path) as beside:
        yield beside
        for entry in sorted(beside.rglob("*")):
            if entry.is_file():
                entry.chmod(FILE_MODE)
            fsync(entry)
        if path.exists():
            shutil.rmtree(path)
        beside.rename(path)
        fsync(path.parent)


def beside_of(path: Path) -> Path:
    """Return the place where the content of `path` is written before it moves there."""
    return path.with_name(f".{path.name}.part")


@contextmanager
def _folder_beside(path: Path, *, mode: int = 0o777) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = beside_of(path)
    remove(beside)  # left by a run that was killed, or a stranger's link to somewhere else
    beside.mkdir(mode)
    try:
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_whole(path: Path, content: bytes) -> None:
    """Make `path` hold `content`. A reader sees the old file or the new one, never a part of it."""
    beside = beside_of(path)
    remove(beside)  # left by a run that was killed, or a stranger's link to somewhere else
    with beside.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    fsync(path.parent)


def remove(path: Path) -> None:
    """Remove a file, a folder with its content, or a link, but not its target. Do nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def no_link(path: str, flags: int) -> int:
    """Open a file that is written in place, as the `opener` of `open`.

    Raises:
        OSError: it is a link. A stranger's could lead to any file of the user.
    """
    try:
        return os.open(path, flags | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link, expected a file: remove it", path) from None
        raise


def write_json(path: Path, content: Any) -> None:
    """Write sorted and indented JSON, so that equal contents give equal bytes.

    Raises:
        ValueError: the content holds NaN, which JSON does not have.
    """
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        ValueError: the file is missing, or is not JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: run the stage that makes it, or `dvc pull`") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}): remove it and run the stage that makes it again") from error


def sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Wait until the disk has stored the file, or the names in the folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
