"""A batch on its way into data/raw: a copy in, a folder that DVC tracks and that is listed out.

Each step can be done again. `data/raw/.incoming/<any>/content` is the copy; `arrival.json` beside it appears once the copy is
whole, and says what it is and where it goes, so that a run that was killed is taken up where it stood.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.landing.copies import Log
from flows.workspace import paths
from flows.workspace.batches import append, digest_of, forget
from flows.workspace.dvc import dvc
from flows.workspace.settings import dvc_settings
from tasks.machine.files import fsync, write_whole


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
    incoming = _incoming()
    incoming.mkdir(exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=incoming))
    try:
        yield place
    finally:
        if not _journal(place).exists():
            shutil.rmtree(place)


def unfinished() -> Iterator[tuple[Path, Arrival | ValueError]]:
    """The arrivals that a run which was killed left, each with its place; what is left of no use is removed."""
    for place in sorted(_incoming().glob("*")):
        if _journal(place).exists():
            arrival = _read(_journal(place))
            if isinstance(arrival, ValueError) or _is_somewhere(arrival, place):
                yield place, arrival
                continue
        _remove(place)


def content_of(place: Path) -> Path:
    """Where the copy stands: a folder, or the file that the batch is."""
    return place / "content"


def discard(place: Path) -> None:
    """Remove a copy of what is here already."""
    _remove(content_of(place))


def record(arrival: Arrival, *, place: Path) -> None:
    """From here on the batch is on its way, whatever happens."""
    write_whole(_journal(place), json.dumps(asdict(arrival)).encode())
    fsync(place.parent)


def settle(arrival: Arrival, *, place: Path, log: Log) -> None:
    """Put the copy into its place, have DVC track it, list it; what is done already is not done again.

    Raises:
        ValueError: something else is in its place.
        DvcError: DVC says no.
    """
    target = paths.raw() / arrival.batch
    content = content_of(place)
    if content.exists():
        if os.path.lexists(target):
            raise ValueError(f"{target} came to be while {arrival.name} was copied: move it away, then run again")
        if digest_of(arrival.batch) == arrival.md5:
            forget(arrival.batch)  # its files were nowhere here: DVC is to fill its cache anew
        content.rename(target)
        fsync(target.parent)
    if not digest_of(arrival.batch):
        forget(arrival.batch)  # a killed DVC leaves it torn
        # no links yet: making them removes files, and a DVC that is killed there would next track the folder without them
        try:
            dvc("add", "--no-relink", str(target), log=log)
        finally:
            if digest_of(arrival.batch) != arrival.md5:
                forget(arrival.batch)
    if digest_of(arrival.batch) != arrival.md5:
        raise ValueError(
            f"DVC finds other files in {target} than were copied: undo what was changed there, "
            f"or what leaves files out in .dvcignore, or remove {target} and {place}, then run again"
        )
    if _is_linking() or not os.path.lexists(target):
        # the links that cache.type asks for, and what a kill left of them
        dvc("checkout", "--relink", f"{target}.dvc", log=log)
    os.sync()  # DVC does not: its cache and its file are on the disk before the landing is told
    append(arrival.batch)


def finish(place: Path) -> None:
    """The batch has arrived."""
    _journal(place).unlink(missing_ok=True)
    shutil.rmtree(place)


def _is_linking() -> bool:
    """Whether DVC is told to: by itself it copies, or makes reflinks while it adds, and would only copy it all once more."""
    return dvc_settings().get("cache", "type", fallback="copy").strip("\"' ") != "copy"


def _is_somewhere(arrival: Arrival, place: Path) -> bool:
    """Somebody may have removed it since; then it is copied again."""
    is_tracked = digest_of(arrival.batch) == arrival.md5
    return is_tracked or content_of(place).exists() or os.path.lexists(paths.raw() / arrival.batch)


def _read(journal: Path) -> Arrival | ValueError:
    try:
        return Arrival(**json.loads(journal.read_text("utf-8")))
    except (ValueError, TypeError):
        return ValueError(
            f"{journal} is of another version, or torn: remove {journal.parent}, and its batch is copied again"
        )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _incoming() -> Path:
    return paths.raw() / ".incoming"


def _journal(place: Path) -> Path:
    return place / "arrival.json"
