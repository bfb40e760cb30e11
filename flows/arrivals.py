"""A batch on its way into data/raw: files of a store in, a verified copy, then a folder that DVC tracks and that is listed.

Each step can be done again. `data/raw/.incoming/<any>/content` is the copy; `arrival.json` beside it appears once the copy is
whole, and says what it is and where it goes, so that a run that was killed is taken up where it stood.
"""

import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.batches import RAW, append, digest_of, forget
from flows.files import fsync, md5, write_whole
from flows.landing import LandedBatch
from flows.repro import dvc
from flows.stores import Found, Store

INCOMING = RAW / ".incoming"
THREADS = 8  # a store answers many at once, and a disk syncs many at once
UNITS = ("kB", "MB", "GB", "TB")
LINE_SECONDS = 10.0  # between two lines of progress

Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A batch that was copied and verified: what it is, and where it is to go."""

    batch: str
    md5: str  # as DVC hashes it
    files: int
    bytes: int
    landing: str  # the address
    name: str  # what the batch is called there
    fingerprint: str  # of its listing there
    event: str  # the id of the event that tells of it, whoever sends it however often


@contextmanager
def begun() -> Iterator[Path]:
    """A place for a copy; it goes when the block ends, unless an arrival stands in it."""
    INCOMING.mkdir(exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=INCOMING))
    try:
        yield place
    finally:
        if not _journal(place).exists():
            shutil.rmtree(place)


def unfinished() -> Iterator[tuple[Path, Arrival]]:
    """The arrivals that a run which was killed left, each with its place; what is left of no use is removed."""
    for place in sorted(INCOMING.glob("*")):
        if _journal(place).exists():
            arrival = Arrival(**json.loads(_journal(place).read_text("utf-8")))
            if _is_somewhere(arrival, place):
                yield place, arrival
                continue
        shutil.rmtree(place)


def _is_somewhere(arrival: Arrival, place: Path) -> bool:
    """Somebody may have removed it since; then it is copied again."""
    is_tracked = digest_of(arrival.batch) == arrival.md5
    return is_tracked or (place / "content").exists() or os.path.lexists(RAW / arrival.batch)


def copy(batch: LandedBatch, *, store: Store, place: Path, log: Log) -> str:
    """Copy the files of a batch, have the disk keep them, read them back; returns their content hash.

    Raises:
        OSError: they do not fit, cannot be read, or read back other bytes than were written.
    """
    free = shutil.disk_usage(RAW).free
    if batch.bytes > free:
        raise OSError(
            f"{batch.name} has {size(batch.bytes)}, and {RAW} has room for {size(free)}: make room, then run again"
        )
    content = place / "content"

    def copy_one(file: Found) -> tuple[str, str]:
        path = _inside(batch, file)
        return path, _copy_file(store, file.path, content / path)

    with ThreadPoolExecutor(THREADS) as pool:
        hashes = dict(_shown(pool.map(copy_one, batch.files), batch=batch, log=log))
    for folder, _, _ in os.walk(place):
        fsync(Path(folder))
    return hashes.get("") or content_hash(hashes)


def check_sizes(batch: LandedBatch, *, place: Path) -> None:
    """Raises OSError where a file is not as long as its store says: some drivers misread some names."""
    for file in batch.files:
        found = (place / "content" / _inside(batch, file)).stat().st_size
        if found != file.size:
            raise OSError(f"{file.path!r} has {file.size:,} bytes, but {found:,} could be read: give it another name")


def content_hash(hashes: dict[str, str]) -> str:
    """DVC's hash of a folder, from path -> hash of each of its files: that of its listing (dvc_data.hashfile.tree.Tree)."""
    listing = [{"md5": digest, "relpath": path} for path, digest in sorted(hashes.items())]
    return hashlib.md5(json.dumps(listing).encode(), usedforsecurity=False).hexdigest() + ".dir"


def record(arrival: Arrival, *, place: Path) -> None:
    """From here on the batch is on its way, whatever happens."""
    write_whole(_journal(place), json.dumps(asdict(arrival)).encode())
    fsync(INCOMING)


def settle(arrival: Arrival, *, place: Path, log: Log) -> None:
    """Put the copy into its place, have DVC track it, list it; what is done already is not done again.

    Raises:
        ValueError: something else is in its place.
        DvcError: DVC says no.
    """
    target = RAW / arrival.batch
    content = place / "content"
    if content.exists():
        if os.path.lexists(target):
            raise ValueError(f"{target} came to be while {arrival.name} was copied: move it away, then run again")
        content.rename(target)
        fsync(RAW)
    if digest_of(arrival.batch) != arrival.md5:
        forget(arrival.batch)  # a killed DVC may leave it torn
        # no links yet: making them removes files, and a DVC that is killed there would next track the folder without them
        dvc("add", "--no-relink", str(target), log=log)
        if digest_of(arrival.batch) != arrival.md5:
            forget(arrival.batch)
            raise ValueError(
                f"DVC finds other files in {target} than were copied: undo what was changed there, "
                f"or what leaves files out in .dvcignore, or remove {target} and {place}, then run again"
            )
    dvc(
        "checkout", "--relink", f"{target}.dvc", log=log
    )  # the links that cache.type asks for, and what a kill left of them
    os.sync()  # DVC does not: its cache and its file are on the disk before the landing is told
    append(arrival.batch)


def finish(place: Path) -> None:
    """The batch has arrived."""
    _journal(place).unlink(missing_ok=True)
    shutil.rmtree(place)


def size(num_bytes: float) -> str:
    """For people: 3.1 GB."""
    if num_bytes < 1000:
        return f"{num_bytes:.0f} bytes"
    power = min(int(math.log10(num_bytes) // 3), len(UNITS))
    return f"{num_bytes / 1000**power:.1f} {UNITS[power - 1]}"


def _inside(batch: LandedBatch, file: Found) -> str:
    """The file's path in the batch; empty where the file is the batch."""
    return file.path[len(batch.name) + 1 :]


def _copy_file(store: Store, path: str, target: Path) -> str:
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
        raise OSError(f"{path} reads back other bytes than were written: check the disk of {RAW}")
    return digest.hexdigest()


def _shown(copied: Iterable[tuple[str, str]], *, batch: LandedBatch, log: Log) -> Iterator[tuple[str, str]]:
    """The same, with a line of progress now and then."""
    last = time.monotonic()
    for number, each in enumerate(copied, start=1):
        yield each
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            done = sum(file.size for file in batch.files[:number])
            log(f"copied {number:,} of {len(batch.files):,} files, {size(done)} of {size(batch.bytes)}")


def _journal(place: Path) -> Path:
    return place / "arrival.json"
