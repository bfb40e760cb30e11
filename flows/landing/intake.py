"""Takes one batch of a landing: DVC tracks it, the list names it, an event reports it, and the landing gets a mark."""

import os
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prefect.events import Event, Resource

from flows.landing.arrivals import Arrival, arrival_of, begun, content_of, discard, finish, record, settle
from flows.landing.copies import Log, copy, size
from flows.landing.listing import MARKS, LandedBatch, Landing, Mark
from flows.landing.packing import num_files_if_overlapping, packed, taken_before
from flows.server.events import deliver
from flows.workspace import paths
from flows.workspace.batches import digest_of, extent_of, fit_name, free_name, namesakes, tracked
from flows.workspace.hashes import hash_of, sizes
from tasks.machine.names import on_one_line

EVENT = "dataset.landed"


@dataclass(kw_only=True)
class Report:
    """The outcome for the batches of a landing: the arrivals, and sentences on the others."""

    landed: list[Arrival] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def add(self, other: "Report") -> None:
        """Add all of another report to this one."""
        for name, entries in vars(other).items():
            getattr(self, name).extend(entries)

    def message(self) -> str:
        """Return the whole report in one line."""
        parts = [*self.failed]
        if self.landed:
            batches = f"{len(self.landed)} batch{'es' if len(self.landed) > 1 else ''}"
            num_files, num_bytes = sum(arrival.files for arrival in self.landed), sum(a.bytes for a in self.landed)
            files = f"{num_files:,} file{'s' if num_files > 1 else ''}"
            names = ", ".join(arrival.batch for arrival in self.landed)
            parts.append(f"landed {batches} ({files}, {size(num_bytes)}): {names}")
        parts += [*self.seen, *self.waiting, *dict.fromkeys(self.warnings)]
        return "; ".join(parts if self.landed or self.failed else ["nothing new", *parts])


def is_to_be_read(batch: LandedBatch, mark: Mark | None, *, have: Mapping[str, str], report: Report) -> bool:
    """Return whether a batch may hold new files. A taken batch that is missing here adds a warning to the report.

    Args:
        have: the project's batches, by content hash.
    """
    if mark is None:
        return True
    name = on_one_line(batch.name)
    if mark.md5 not in have:
        report.warnings.append(
            f"{name} was taken as {on_one_line(mark.batch)}, which is not here: pull it with git and DVC, "
            f"or remove its file in {MARKS} at the landing and run again"
        )
        return False
    if not os.path.lexists(paths.raw() / have[mark.md5]):
        report.warnings.append(
            f"{name} was taken as {have[mark.md5]}, but its files are not here: dvc pull, "
            f"or remove its mark in {MARKS} at the landing to copy it again"
        )
        return False
    return mark.fingerprint != batch.fingerprint


def take(batch: LandedBatch, mark: Mark | None, landing: Landing, log: Log, *, is_first: bool = True) -> Report:
    """Take a batch from the landing to its place.

    Args:
        is_first: it is the first that this ingest takes.

    Raises:
        OSError: it cannot be copied.
        ValueError: it cannot be taken as it is, or it was taken before and still has some of those files.
    """
    name = on_one_line(batch.name)
    if batch.problem:
        raise ValueError(batch.problem)
    fit = fit_name(batch.name)
    earlier = {*namesakes(fit), *([tracked()[mark.md5]] if mark else [])}
    if same := taken_before(batch, earlier, store=landing.store):
        arrival = arrival_of(batch, name=same, digest=digest_of(same), landing=landing)
        return Report(seen=[f"{name} was here before, as {same}"], warnings=mark_as_taken(arrival, landing))
    with begun() as place:
        digest, problem = "", None
        try:
            if (len(batch.files), batch.bytes) not in map(extent_of, earlier):
                refuse_changed(batch, earlier, landing)  # before all of it is copied
            digest = copy(batch, content_of(place), store=landing.store, log=log)
        except OSError as error:  # for example, a file disappeared
            problem = error
        if landing.again(batch).files != batch.files:
            return Report(waiting=[f"{name} waits: it changed while it was copied"])
        if problem:
            raise problem
        digest = packed(batch, content_of(place), digest=digest, log=log)
        known = tracked().get(digest)
        if not known:
            refuse_changed(batch, earlier, landing)
        is_there = not known and fit not in earlier and hash_of(paths.raw() / fit) == digest
        taken_as = known or (fit if is_there else free_name(fit, digest))
        arrival = arrival_of(batch, name=taken_as, digest=digest, landing=landing)
        if known and os.path.lexists(paths.raw() / known):
            if len(sizes(paths.raw() / known)) < extent_of(known)[0]:
                raise ValueError(
                    f"was here before, as {known}, but files of it are missing: "
                    f"dvc pull, or move {paths.raw() / known} away to copy it again"
                )
            return Report(seen=[f"{name} was here before, as {known}"], warnings=mark_as_taken(arrival, landing))
        if arrival.batch != batch.name:
            log(f"{name} will be called {arrival.batch}")
        if is_there:
            log(f"{name} is in {paths.raw()} already")
            discard(place)
        record(arrival, place=place)
    return complete(arrival, place, landing, log, is_first=is_first)


def complete(arrival: Arrival, place: Path, landing: Landing, log: Log, *, is_first: bool = True) -> Report:
    """Do the remaining steps for a batch that was copied. Finally the landing is marked."""
    settle(arrival, place=place, log=log)
    deliver(event_of(arrival, is_first=is_first))
    warnings = mark_as_taken(arrival, landing) if arrival.landing == landing.store.address else []
    finish(place)
    return Report(landed=[arrival], warnings=warnings)


def event_of(arrival: Arrival, *, is_first: bool) -> Event:
    """Return the event of a batch that landed."""
    payload = {"batch": arrival.batch, "files": arrival.files, "bytes": arrival.bytes}
    resource = {
        "prefect.resource.id": f"graftline.batch.{arrival.batch}",
        "prefect.resource.name": arrival.batch,
        "graftline.project": Path.cwd().name,
        "graftline.order": "first" if is_first else "further",  # the trigger in prefect.yaml reads it
    }
    return Event(
        event=EVENT,
        resource=Resource(resource),
        payload=payload | {"source": on_one_line(f"{arrival.landing}/{arrival.name}")},
        id=uuid.UUID(arrival.event),
    )


def mark_as_taken(arrival: Arrival, landing: Landing) -> list[str]:
    """Mark the batch as taken, and return a warning if the landing cannot be written to."""
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
        return [f"{landing.store.address} cannot be written to, so every run reads taken batches again: {error}"]
    return []


def refuse_changed(batch: LandedBatch, earlier: Collection[str], landing: Landing) -> None:
    """Raise ValueError if a batch has files of an earlier batch: the project would have them twice."""
    for name in sorted(earlier):
        num_files = num_files_if_overlapping(batch, paths.raw() / name, store=landing.store)
        if num_files is not None:
            num_more = len(batch.files) - num_files
            files = f"{abs(num_more):,} file{'s' if abs(num_more) > 1 else ''} {'more' if num_more > 0 else 'fewer'}"
            change = files if num_more else "other content"
            raise ValueError(f"changed after it was taken as {name}: {change}: put new files in a batch of their own")
