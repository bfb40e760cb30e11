"""Copies that are sure: a landed batch in; its files on this disk, read back and hashed as DVC does, out."""

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
from flows.landing.places import Found, Store
from flows.workspace.dvc import dvc
from flows.workspace.hashes import content_hash, md5, md5_of, sizes
from tasks.machine.files import fsync

THREADS = 8  # a store answers many at once, and a disk syncs many at once
LINE_SECONDS = 10.0  # between two lines of progress
FICLONE = 0x40049409  # linux/fs.h
UNITS = ("kB", "MB", "GB", "TB")

Log = Callable[[str], None]


def copy(batch: LandedBatch, target: Path, *, store: Store, log: Log) -> str:
    """Copy a batch to `target`, have the disk keep them, read them back; returns their content hash.

    Raises:
        OSError: they do not fit, cannot be read, are not what the store says, or read back other than they were written.
    """
    check_room(batch.bytes, target.parent)
    log(f"copying {len(batch.files):,} files, {size(batch.bytes)}")

    def copy_one(file: Found) -> tuple[str, str]:
        path = _inside(batch, file)
        digest, length = _copy_file(store, file.path, target / path)
        if length != file.size or store.denies(file, digest):  # some drivers misread some names
            raise OSError(f"{file.path!r} has other bytes than could be read: give it another name")
        return path, digest

    try:
        with ThreadPoolExecutor(THREADS) as pool:
            hashes = dict(_shown(pool.map(copy_one, batch.files), batch=batch, log=log))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError("the disk is full: make room, then run again") from error
    for folder, _, _ in os.walk(target.parent):
        fsync(Path(folder))
    return hashes.get("") or content_hash(hashes)


def check_room(num_bytes: int, folder: Path) -> None:
    """Raises OSError where the disk has no room for the bytes, and once more for DVC's cache where that takes any of it."""
    free = shutil.disk_usage(folder).free
    if num_bytes <= free and (2 * num_bytes <= free or _is_cache_apart(folder) or _is_sharing(folder)):
        return
    raise OSError(
        f"{size(num_bytes)} are to be copied, and once more into DVC's cache, but there is room for {size(free)}: "
        "make room, then run again"
    )


def is_overlapping(batch: LandedBatch, path: Path, *, store: Store) -> bool:
    """Whether a file of the batch is below the path too, with the same name and bytes; the first that is ends the search."""
    here = sizes(path)
    return any(
        here.get(inside := _inside(batch, file)) == file.size and md5_of(store.blocks(file.path)) == md5(path / inside)
        for file in batch.files
    )


def size(num_bytes: float) -> str:
    """For people: 3.1 GB."""
    if num_bytes < 1000:
        return f"{num_bytes:.0f} B"
    power = min(int(math.log10(num_bytes) // 3), len(UNITS))
    return f"{num_bytes / 1000**power:.1f} {UNITS[power - 1]}"


def _is_cache_apart(folder: Path) -> bool:
    """Whether DVC's cache is on another disk."""
    lines: list[str] = []
    dvc("cache", "dir", log=lines.append)
    cache = Path(lines[-1]).absolute()
    return next(place for place in (cache, *cache.parents) if place.exists()).stat().st_dev != folder.stat().st_dev


def _is_sharing(folder: Path) -> bool:
    """Whether a copy on this disk takes no room: `dvc add` makes reflinks, where there are any."""
    with tempfile.TemporaryFile(dir=folder) as one, tempfile.TemporaryFile(dir=folder) as other:
        try:
            fcntl.ioctl(other, FICLONE, one.fileno())
        except OSError:
            return False
    return True


def _inside(batch: LandedBatch, file: Found) -> str:
    """The file's path in the batch; empty where the file is the batch."""
    return file.path[len(batch.name) + 1 :]


def _copy_file(store: Store, path: str, target: Path) -> tuple[str, int]:
    """Returns its MD5 and its length in bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.md5(usedforsecurity=False)
    with target.open("xb") as file:
        for block in store.blocks(path):
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):  # so that the disk is what is read back
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if md5(target) != digest.hexdigest():
        raise OSError(f"{path} reads back other bytes than were written: check the disk")
    return digest.hexdigest(), target.stat().st_size


def _shown(copied: Iterable[tuple[str, str]], *, batch: LandedBatch, log: Log) -> Iterator[tuple[str, str]]:
    """The same, with a line of progress now and then."""
    last = time.monotonic()
    for number, each in enumerate(copied, start=1):
        yield each
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            done = sum(file.size for file in batch.files[:number])
            log(f"copied {number:,} of {len(batch.files):,} files, {size(done)} of {size(batch.bytes)}")
