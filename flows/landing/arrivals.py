"""A batch on its way from a landing into the folder of raw data, where DVC tracks it and the list of batches names it.

Each step can be done again. `.incoming/<any name>/content`, in the folder of raw data, is the copy. `arrival.json`
beside it appears once the copy is whole: it describes the batch and its place, so that the next run continues where a
killed one stopped.
"""

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.landing.copies import Log
from flows.landing.enlist import enlist
from flows.landing.listing import LandedBatch, Landing
from flows.workspace import paths
from flows.workspace.batches import digest_of, forget
from flows.workspace.dvc import dvc
from tasks.machine.dvc_files import dvc_settings
from tasks.machine.files import fsync, remove, write_whole


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A batch that was copied and verified, and its place."""

    batch: str
    md5: str  # DVC's hash
    files: int
    bytes: int
    landing: str  # the address
    name: str  # the batch's name at the landing
    fingerprint: str  # of its listing at the landing
    event: str  # the id of the event that reports it: one id, however often it is sent


def arrival_of(landed: LandedBatch, *, name: str, digest: str, landing: Landing) -> Arrival:
    """Return the arrival of a copied batch, which is called `name` here and has DVC's hash `digest`."""
    return Arrival(
        batch=name,
        md5=digest,
        files=len(landed.files),
        bytes=landed.bytes,
        landing=landing.store.address,
        name=landed.name,
        fingerprint=landed.fingerprint,
        event=str(uuid.uuid4()),
    )


@contextmanager
def begun() -> Iterator[Path]:
    """Yield a place for a copy. It is removed when the block ends, unless it holds an arrival by then."""
    incoming = _incoming()
    incoming.mkdir(exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=incoming))
    try:
        yield place
    finally:
        if not _journal(place).exists():
            shutil.rmtree(place)


def unfinished() -> Iterator[tuple[Path, Arrival | ValueError]]:
    """Yield the arrivals that a killed run left, each with its place; remove useless leftovers."""
    for place in sorted(_incoming().glob("*")):
        if _journal(place).exists():
            arrival = _read(_journal(place))
            if isinstance(arrival, ValueError) or _is_somewhere(arrival, place):
                yield place, arrival
                continue
        remove(place)


def content_of(place: Path) -> Path:
    """Return where the copy stands: a folder, or a file if the batch is a file."""
    return place / "content"


def discard(place: Path) -> None:
    """Remove a copy of a batch that is in its place already."""
    remove(content_of(place))


def record(arrival: Arrival, *, place: Path) -> None:
    """Note that the copy is whole. From here on the batch arrives, even if this run is killed."""
    write_whole(_journal(place), json.dumps(asdict(arrival)).encode())
    fsync(place.parent)


def settle(arrival: Arrival, *, place: Path, log: Log) -> None:
    """Move the copy to its place, have DVC track it, and list the batch. Steps that are done already are skipped.

    Raises:
        ValueError: its place is taken, or DVC finds other files than were copied.
        DvcError: DVC fails.
    """
    target = paths.raw() / arrival.batch
    content = content_of(place)
    if content.exists():
        if os.path.lexists(target):
            raise ValueError(f"{target} appeared while {arrival.name} was copied: move it away, then run again")
        if digest_of(arrival.batch) == arrival.md5:
            forget(arrival.batch)  # its files were missing here: DVC must fill its cache again
        content.rename(target)
        fsync(target.parent)
    if not digest_of(arrival.batch):
        forget(arrival.batch)  # a killed DVC leaves a torn file
        # no links yet: DVC removes files to link them, and a DVC that is killed then would next track the folder
        # without those files
        try:
            dvc("add", "--no-relink", str(target), log=log)
        finally:
            if digest_of(arrival.batch) != arrival.md5:
                forget(arrival.batch)
    if digest_of(arrival.batch) != arrival.md5:
        raise ValueError(
            f"DVC finds other files in {target} than were copied: undo what was changed there, "
            f"or the lines of .dvcignore that leave files out, or remove {target} and {place}, then run again"
        )
    if _is_linking() or not os.path.lexists(target):
        # makes the links that cache.type asks for, and completes those of a killed run
        dvc("checkout", "--relink", f"{target}.dvc", log=log)
    os.sync()  # DVC does not: its cache and its file must be on the disk before the landing is marked
    enlist(arrival.batch, log=log)


def finish(place: Path) -> None:
    """Remove the place of a batch that has arrived."""
    _journal(place).unlink(missing_ok=True)
    shutil.rmtree(place)


def _is_linking() -> bool:
    """Return whether DVC's settings ask for links.

    Without links a relink is useless: it would only copy everything once more.
    """
    return dvc_settings().get("cache", "type", fallback="copy").strip("\"' ") != "copy"


def _is_somewhere(arrival: Arrival, place: Path) -> bool:
    """Return whether the batch is still here. A person may have removed it since: then it is copied again."""
    is_tracked = digest_of(arrival.batch) == arrival.md5
    return is_tracked or content_of(place).exists() or os.path.lexists(paths.raw() / arrival.batch)


def _read(journal: Path) -> Arrival | ValueError:
    try:
        return Arrival(**json.loads(journal.read_text("utf-8")))
    except (ValueError, TypeError):
        return ValueError(
            f"{journal} is of another version, or torn: remove {journal.parent}, and its batch is copied again"
        )


def _incoming() -> Path:
    return paths.raw() / ".incoming"


def _journal(place: Path) -> Path:
    return place / "arrival.json"
