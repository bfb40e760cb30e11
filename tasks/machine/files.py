"""Files that are whole or absent: what is written stands beside its place until it is complete, then moves there."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FILE_MODE = 0o644  # safetensors makes files that only their owner may read


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to; it becomes `path` when the block ends well, and is removed when it does not. Raises ValueError where
    something else than a file stands at `path`: a device such as /dev/null would be replaced."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file: name another, or one that is not there yet")
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
    """An empty folder to fill; it takes the place of `path` when the block ends well, and is removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    shutil.rmtree(beside, ignore_errors=True)  # left by a run that was killed
    beside.mkdir()
    try:
        yield beside
        for each in sorted(beside.rglob("*")):
            if each.is_file():
                each.chmod(FILE_MODE)
            fsync(each)
        if path.exists():
            shutil.rmtree(path)
        beside.rename(path)
        fsync(path.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_whole(path: Path, content: bytes) -> None:
    """Make `path` hold `content`; a reader finds the old file or the new one, never a part."""
    beside = path.with_name(f".{path.name}.part")
    beside.unlink(missing_ok=True)  # left by a run that was killed, or a stranger's link to somewhere else
    with beside.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    fsync(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Sorted and indented, so that equal contents are equal bytes. NaN is refused: it is no JSON."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def read_json(path: Path) -> Any:
    """Raises ValueError where the file is missing or is no JSON."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: run the stage that makes it, or `dvc pull`") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}): remove it and run the stage that makes it again") from error


def sha256(path: Path) -> str:
    """Of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Return once the disk has the file, or the names in the folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
