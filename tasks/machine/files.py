"""Write files that are whole or absent: content is written beside its place and moves there once it is complete."""

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

    Raises:
        ValueError: `path` is not a regular file. A device such as /dev/null would be replaced.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file: choose a regular file, or a path that does not exist yet")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    try:
        yield beside
        beside.chmod(FILE_MODE)
        fsync(beside)
        beside.replace(path)
        fsync(path.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it replaces `path` when the block ends well, and is removed when it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    shutil.rmtree(beside, ignore_errors=True)  # left by a run that was killed
    beside.mkdir()
    try:
        yield beside
        for entry in sorted(beside.rglob("*")):
            if entry.is_file():
                entry.chmod(FILE_MODE)
            fsync(entry)
        if path.exists():
            shutil.rmtree(path)
        beside.rename(path)
        fsync(path.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_whole(path: Path, content: bytes) -> None:
    """Make `path` hold `content`. A reader sees the old file or the new one, never a part of it."""
    beside = path.with_name(f".{path.name}.part")
    beside.unlink(missing_ok=True)  # left by a run that was killed, or a stranger's link to somewhere else
    with beside.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    fsync(path.parent)


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
    except json.JSONDecodeError as error:
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
