"""New data lands: the batches of a landing in; tracked and listed batches of data/raw, and an event for each, out.

`python -m flows.ingest LANDING` takes what is whole, once; LANDING is a folder or an address such as s3://bucket/prefix.
"""

import argparse
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.events import Event, Resource
from prefect.states import Completed, Failed

from flows.arrivals import Arrival, Log, begun, check_sizes, copy, finish, record, settle, size, unfinished
from flows.batches import LISTED, RAW, fit_name, free_name, listed, tracked
from flows.events import deliver
from flows.landing import MARKS, LandedBatch, Landing, Mark
from flows.repro import DvcError, only_writer
from flows.stores import open_store

EVENT = "dataset.landed"
MARKER = "_COMPLETE"
QUIET_SECONDS = 300.0


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

    def state(self) -> State[Any]:
        told = [*self.failed]
        if self.landed:
            batches = f"{len(self.landed)} batch{'es' if len(self.landed) > 1 else ''}"
            num_files, num_bytes = sum(each.files for each in self.landed), sum(each.bytes for each in self.landed)
            files = f"{num_files:,} file{'s' if num_files > 1 else ''}"
            told.append(
                f"landed {batches} ({files}, {size(num_bytes)}): {', '.join(each.batch for each in self.landed)}"
            )
        told += [*self.seen, *self.waiting, *dict.fromkeys(self.warnings)]
        message = "; ".join(told if self.landed or self.failed else ["nothing new", *told])
        return Failed(message=message) if self.failed else Completed(message=message)


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def land(name: str, work: Callable[[Log], Report]) -> State[Any]:
    """Take one batch; what is wrong with it stops no other."""
    try:
        report = work(get_run_logger().info)
    except (OSError, ValueError, DvcError) as error:
        return Failed(message=f"{name}: {' '.join(str(error).split())}")
    return Completed(message=report.state().message, data=report)


@flow(name="ingest")
def ingest(landing: str, marker: str = MARKER, quiet_seconds: float = QUIET_SECONDS) -> State[Any]:
    """Take every batch of the landing that is whole and was not taken before."""
    try:
        with only_writer():
            store = open_store(landing)
            raw, root = RAW.resolve(), Path(store.address)
            if raw.is_relative_to(root) or root.is_relative_to(raw):
                raise ValueError(f"the landing {root} holds {RAW}, or lies in it: expected a place apart")
            report = take_all(Landing(store, marker=marker), quiet_seconds=quiet_seconds)
    except (OSError, ValueError) as error:
        return Failed(message=" ".join(str(error).split()))
    for warning in dict.fromkeys(report.warnings):
        get_run_logger().warning(warning)
    return report.state()


def take_all(landing: Landing, *, quiet_seconds: float) -> Report:
    logger = get_run_logger()
    report = Report()
    stuck: set[str] = set()
    for place, arrival in unfinished():
        logger.info("%s was on its way when an earlier run ended: going on", arrival.batch)
        found = run(shown(arrival.name), partial(complete, arrival, place, landing))
        report.add(found)
        if found.failed and arrival.landing == landing.store.address:
            stuck.add(arrival.name)
    listing = landing.look()
    if not (listing.batches or listing.strays or listing.marks):
        report.warnings.append(f"{landing.store.address} holds nothing")
    for name in listing.strays:
        report.warnings.append(f"{shown(name)} is no batch: expected folders and .parquet files")
    for batch in listing.batches:
        name = shown(batch.name)
        mark = landing.mark_of(batch, marks=listing.marks)
        if batch.name in stuck or (mark and is_as_it_was(batch, mark, report)):
            continue
        if why := batch.why_not_whole(quiet_seconds):
            report.waiting.append(f"{name} waits: {why}")
            logger.info("%s waits for %s or %.0f s without a change: %s", name, landing.marker, quiet_seconds, why)
            continue
        report.add(run(name, partial(take, batch, mark, landing)))
    return report


def run(name: str, work: Callable[[Log], Report]) -> Report:
    """A task run a batch."""
    state: State[Any] = land(name, work, return_state=True)
    if not state.is_completed():
        return Report(failed=[state.message or name])
    report: Report = state.result()
    return report


def is_as_it_was(batch: LandedBatch, mark: Mark, report: Report) -> bool:
    """Whether there is nothing to read in a batch that was taken; what somebody has to look at is reported."""
    if mark.md5 not in tracked():
        report.warnings.append(
            f"{shown(batch.name)} was taken as {mark.batch}, which is not here: pull it with git and DVC, "
            f"or remove its file in {MARKS} at the landing and run again"
        )
        return True
    if (mark.files, mark.bytes) != (len(batch.files), batch.bytes):
        report.warnings.append(changed(batch, mark))
        return True
    return mark.fingerprint == batch.fingerprint


def take(batch: LandedBatch, mark: Mark | None, landing: Landing, log: Log) -> Report:
    """A batch, from the landing to its place."""
    name = shown(batch.name)
    if batch.problem:
        raise ValueError(batch.problem)
    with begun() as place:
        digest = copy(batch, store=landing.store, place=place, log=log)
        if landing.again(batch).files != batch.files:
            return Report(waiting=[f"{name} waits: it changed while it was copied"])
        check_sizes(batch, place=place)
        if mark and digest != mark.md5:
            return Report(warnings=[changed(batch, mark)])
        known = tracked().get(digest)
        arrival = Arrival(
            batch=known or free_name(fit_name(batch.name), digest),
            md5=digest,
            files=len(batch.files),
            bytes=batch.bytes,
            landing=landing.store.address,
            name=batch.name,
            fingerprint=batch.fingerprint,
            event=str(uuid.uuid4()),
        )
        if known:
            unlisted = "" if known in listed() else f", which {LISTED} does not list"
            return Report(seen=[f"{name} was here before, as {known}{unlisted}"], warnings=tell(arrival, landing))
        if arrival.batch != batch.name:
            log(f"{name} will be called {arrival.batch}")
        record(arrival, place=place)
    return complete(arrival, place, landing, log)


def complete(arrival: Arrival, place: Path, landing: Landing, log: Log) -> Report:
    """What is still to do for a batch that was copied. The landing is told last."""
    settle(arrival, place=place, log=log)
    payload = {"batch": arrival.batch, "files": arrival.files, "bytes": arrival.bytes}
    resource = {"prefect.resource.id": f"graftline.batch.{arrival.batch}", "prefect.resource.name": arrival.batch}
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


def changed(batch: LandedBatch, mark: Mark) -> str:
    more = len(batch.files) - mark.files
    what = (
        f"{abs(more):,} file{'s' if abs(more) > 1 else ''} {'more' if more > 0 else 'fewer'}"
        if more
        else "other content"
    )
    return (
        f"{shown(batch.name)} changed after it was taken as {mark.batch}: {what}: put new files in a batch of their own"
    )


def shown(name: str) -> str:
    """A stranger's name, in a line."""
    return name if name.isprintable() else ascii(name)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.ingest", description="Take the batches that landed.")
    parser.add_argument("landing", help="a folder, or an address that fsspec knows: s3://bucket/prefix, gs://…")
    parser.add_argument("--marker", default=MARKER, help="the file that says that its batch is whole (%(default)s)")
    parser.add_argument(
        "--quiet-seconds", type=float, default=QUIET_SECONDS, help="or so long without a change (%(default)s)"
    )
    arguments = parser.parse_args()
    state = ingest(arguments.landing, arguments.marker, arguments.quiet_seconds, return_state=True)
    sys.exit(0 if state.is_completed() else 1)


if __name__ == "__main__":
    main()
