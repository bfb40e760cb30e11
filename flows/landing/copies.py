"""Verified copies: a landed batch is written to this disk, read back, and hashed as DVC hashes it."""

import errno
import fcntl
import hashlib
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flows.landing.listing import LandedBatch
from flows.landing.places import LandedFile, Store
from flows.workspace.dvc import dvc
from flows.workspace.hashes import content_hash, md5
from tasks.machine.files import fsync

THREADS = 8  # they wait for a store or a disk, which serves many at once: the number of cores does not matter
LINE_SECONDS = 10.0  # between two lines of progress
FICLONE = 0x40049409  # linux/fs.h
UNITS = ("kB", "MB", "GB", "TB")

Log = Callable[[str], None]


def copy(batch: LandedBatch, target: Path, *, store: Store, log: Log) -> str:
    """Copy a batch to `target` so that a power loss keeps it, verify the copy, and return its content hash.

    Raises:
        OSError: the disk has no room, a file cannot be read, has other bytes than the store states, or reads back other
            bytes than were written.
    """
    check_room(batch.bytes, target.parent)
    log(f"copying {len(batch.files):,} files, {size(batch.bytes)}")

    def copy_one(file: LandedFile) -> tuple[str, str]:
        path = inside(batch, file)
        digest, length = _copy_file(store, file.path, target / path)
        if length != file.size or store.denies(file, digest):  # some drivers misread some names
            raise OSError(f"{file.path!r} has other bytes than could be read: give it another name")
        return path, digest

    try:
        with ThreadPoolExecutor(THREADS) as pool:
            hashes = dict(_with_progress(pool.map(copy_one, batch.files), batch=batch, log=log))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError("the disk is full: make room, then run again") from error
    for folder, _, _ in os.walk(target.parent):
        fsync(Path(folder))
    return hashes.get("") or content_hash(hashes)


def check_room(num_bytes: int, folder: Path) -> None:
    """Raise OSError if the disk lacks room for the bytes, or for their copy in DVC's cache where that takes room."""
    free = shutil.disk_usage(folder).free
    if num_bytes <= free and (2 * num_bytes <= free or _is_cache_apart(folder) or _shares_bytes(folder)):
        return
    raise OSError(
        f"{size(num_bytes)} are to be copied, and once more into DVC's cache, but there is room for {size(free)}: "
        "make room, then run again"
    )


def size(num_bytes: float) -> str:
    """Return a size for people, such as 3.1 GB."""
    if num_bytes < 1000:
        return f"{num_bytes:.0f} B"
    power = min(int(math.log10(num_bytes) // 3), len(UNITS))
    return f"{num_bytes / 1000**power:.1f} {UNITS[power - 1]}"


def _is_cache_apart(folder: Path) -> bool:
    """Return whether DVC's cache is on another disk."""
    lines: list[str] = []
    dvc("cache", "dir", log=lines.append)
    cache = Path(lines[-1]).absolute()
    return next(place for place in (cache, *cache.parents) if place.exists()).stat().st_dev != folder.stat().st_dev


def _shares_bytes(folder: Path) -> bool:
    """Return whether a copy on this disk takes no room: `dvc add` makes reflinks where the file system can."""
    with tempfile.TemporaryFile(dir=folder) as one, tempfile.TemporaryFile(dir=folder) as other:
        try:
            fcntl.ioctl(other, FICLONE, one.fileno())
        except OSError:
            return False
    return True


def inside(batch: LandedBatch, file: LandedFile) -> str:
    """Return the file's path in the batch; empty if the file is the batch."""
    return file.path[len(batch.name) + 1 :]


def _copy_file(store: Store, path: str, target: Path) -> tuple[str, int]:
    """Copy and verify one file, and return its MD5 and its length in bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.md5(usedforsecurity=False)
    with target.open("xb") as file:
        for block in store.blocks(path):
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):  # so that the bytes are read back from the disk, not from memory
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if md5(target) != digest.hexdigest():
        raise OSError(f"{path} reads back other bytes than were written: check the disk")
    return digest.hexdigest(), target.stat().st_size


def _with_progress(copied: Iterable[tuple[str, str]], *, batch: LandedBatch, log: Log) -> Iterator[tuple[str, str]]:
    """Yield the blocks, and log a line of progress every LINE_SECONDS."""
    last = time.monotonic()
    for number, path_and_hash in enumerate(copied, start=1):
        yield path_and_hash
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            done = sum(file.size for file in batch.files[:number])
            log(f"copied {number:,} of {len(batch.files):,} files, {size(done)} of {size(batch.bytes)}")
