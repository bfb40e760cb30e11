"""One batch of a landing in; a tracked and listed batch of data/raw, an event and a mark at the landing out."""

import os
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prefect.events import Event, Resource

from flows.landing.arrivals import Arrival, begun, content_of, discard, finish, record, settle
from flows.landing.copies import Log, copy, is_overlapping, size
from flows.landing.listing import MARKS, LandedBatch, Landing, Mark
from flows.server.events import deliver
from flows.workspace import paths
from flows.workspace.batches import extent_of, fit_name, free_name, namesakes, tracked
from flows.workspace.hashes import hash_of, sizes

EVENT = "dataset.landed"


@dataclass(kw_only=True)
class Report:
    """What became of a landing's batches: arrivals, and sentences on the others."""

    landed: list[Arrival] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def add(self, other: "Report") -> None:
        for name, found in vars(other).items():
            getattr(self, name).extend(found)

    def message(self) -> str:
        """All of it, in a line."""
        told = [*self.failed]
        if self.landed:
            batches = f"{len(self.landed)} batch{'es' if len(self.landed) > 1 else ''}"
            num_files, num_bytes = sum(each.files for each in self.landed), sum(each.bytes for each in self.landed)
            files = f"{num_files:,} file{'s' if num_files > 1 else ''}"
            told.append(
                f"landed {batches} ({files}, {size(num_bytes)}): {', '.join(each.batch for each in self.landed)}"
            )
        told += [*self.seen, *self.waiting, *dict.fromkeys(self.warnings)]
        return "; ".join(told if self.landed or self.failed else ["nothing new", *told])


def is_to_be_read(batch: LandedBatch, mark: Mark | None, *, have: Mapping[str, str], report: Report) -> bool:
    """Whether a batch may hold something new; what somebody has to look at in one that was taken is reported.

    Args:
        have: the project's batches, by their content hashes.
    """
    if mark is None:
        return True
    if mark.md5 not in have:
        report.warnings.append(
            f"{shown(batch.name)} was taken as {shown(mark.batch)}, which is not here: pull it with git and DVC, "
            f"or remove its file in {MARKS} at the landing and run again"
        )
        return False
    if not os.path.lexists(paths.raw() / have[mark.md5]):
        report.warnings.append(
            f"{shown(batch.name)} was taken as {have[mark.md5]}, but its files are not here: dvc pull, "
            f"or remove its mark in {MARKS} at the landing to copy it again"
        )
        return False
    return mark.fingerprint != batch.fingerprint


def take(batch: LandedBatch, mark: Mark | None, landing: Landing, log: Log, *, is_first: bool = True) -> Report:
    """A batch, from the landing to its place.

    Args:
        is_first: of those that this ingest takes.

    Raises:
        OSError: it cannot be copied.
        ValueError: it cannot be taken as it is, or was taken before and has some of those files still.
    """
    name = shown(batch.name)
    if batch.problem:
        raise ValueError(batch.problem)
    fit = fit_name(batch.name)
    earlier = {*namesakes(fit), *([tracked()[mark.md5]] if mark else [])}
    with begun() as place:
        digest, problem = "", None
        try:
            if (len(batch.files), batch.bytes) not in map(extent_of, earlier):
                refuse_changed(batch, earlier, landing)  # before a copy of it all
            digest = copy(batch, content_of(place), store=landing.store, log=log)
        except OSError as error:  # a file that went, say
            problem = error
        if landing.again(batch).files != batch.files:
            return Report(waiting=[f"{name} waits: it changed while it was copied"])
        if problem:
            raise problem
        known = tracked().get(digest)
        if not known:
            refuse_changed(batch, earlier, landing)
        is_there = not known and fit not in earlier and hash_of(paths.raw() / fit) == digest
        arrival = Arrival(
            batch=known or (fit if is_there else free_name(fit, digest)),
            md5=digest,
            files=len(batch.files),
            bytes=batch.bytes,
            landing=landing.store.address,
            name=batch.name,
            fingerprint=batch.fingerprint,
            event=str(uuid.uuid4()),
        )
        if known and os.path.lexists(paths.raw() / known):
            if len(sizes(paths.raw() / known)) < len(batch.files):
                raise ValueError(
                    f"was here before, as {known}, but files of it are missing: "
                    f"dvc pull, or move {paths.raw() / known} away to copy it again"
                )
            return Report(seen=[f"{name} was here before, as {known}"], warnings=tell(arrival, landing))
        if arrival.batch != batch.name:
            log(f"{name} will be called {arrival.batch}")
        if is_there:
            log(f"{name} is in {paths.raw()} already")
            discard(place)
        record(arrival, place=place)
    return complete(arrival, place, landing, log, is_first=is_first)


def complete(arrival: Arrival, place: Path, landing: Landing, log: Log, *, is_first: bool = True) -> Report:
    """What is still to do for a batch that was copied. The landing is told last."""
    settle(arrival, place=place, log=log)
    payload = {"batch": arrival.batch, "files": arrival.files, "bytes": arrival.bytes}
    resource = {
        "prefect.resource.id": f"graftline.batch.{arrival.batch}",
        "prefect.resource.name": arrival.batch,
        "graftline.project": Path.cwd().name,
        "graftline.order": "first" if is_first else "further",  # the trigger of prefect.yaml goes by it
    }
    deliver(
        Event(
            event=EVENT,
            resource=Resource(resource),
            payload=payload | {"source": f"{arrival.landing}/{shown(arrival.name)}"},
            id=uuid.UUID(arrival.event),
        )
    )
    warnings = tell(arrival, landing) if arrival.landing == landing.store.address else []
    finish(place)
    return Report(landed=[arrival], warnings=warnings)


def tell(arrival: Arrival, landing: Landing) -> list[str]:
    """Mark the batch as taken; a warning where the landing cannot be written to."""
    mark = Mark(
        batch=arrival.batch,
        md5=arrival.md5,
        files=arrival.files,
        bytes=arrival.bytes,
        fingerprint=arrival.fingerprint,
    )
    try:
        landing.mark(arrival.name, mark)
    except OSError as error:
        return [f"{landing.store.address} cannot be written to, so what was taken is read again each time: {error}"]
    return []


def refuse_changed(batch: LandedBatch, earlier: Collection[str], landing: Landing) -> None:
    """Raises ValueError where a batch has files of one that was taken: taken again, they would be here twice."""
    for name in sorted(earlier):
        if is_overlapping(batch, paths.raw() / name, store=landing.store):
            more = len(batch.files) - extent_of(name)[0]
            files = f"{abs(more):,} file{'s' if abs(more) > 1 else ''} {'more' if more > 0 else 'fewer'}"
            what = files if more else "other content"
            raise ValueError(f"changed after it was taken as {name}: {what}: put new files in a batch of their own")


def shown(name: str) -> str:
    """A stranger's name, in a line."""
    return name if name.isprintable() else ascii(name)
