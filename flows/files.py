"""Bytes that outlive a crash: what is written stands beside its place until the disk has it, then moves there."""

import hashlib
import os
from pathlib import Path

BLOCK_BYTES = 1 << 20


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


def fsync(path: Path) -> None:
    """Return once the disk has the file, or the names in the folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def md5(path: Path) -> str:
    """DVC's hash of a file."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
