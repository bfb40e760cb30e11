"""The flow `ingest`: the batches of a landing become tracked and listed batches, with an event for each."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.landing.arrivals import unfinished
from flows.landing.copies import Log
from flows.landing.intake import Report, complete, is_to_be_read, take
from flows.landing.listing import Landing
from flows.landing.options import MARKER, QUIET_SECONDS, check_quiet
from flows.landing.places import open_store
from flows.server.alarms import failed, mended
from flows.server.narration import name_run
from flows.server.plan import check_planned
from flows.server.secrets import Secrets, take_secrets
from flows.workspace import paths
from flows.workspace.batches import loose_ends, tracked
from flows.workspace.dvc import DvcError
from flows.workspace.hold import only_writer
from flows.workspace.parameters import modality
from flows.workspace.redaction import in_a_line
from tasks.machine.names import on_one_line


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def land(name: str, work: Callable[[Log], Report]) -> State[Any]:
    """Take one batch. If it is refused, the others are taken all the same."""
    try:
        report = work(get_run_logger().info)
    except (OSError, ValueError, DvcError) as error:
        return Failed(message=f"{name}: {in_a_line(error)}")
    return Completed(message=report.message(), data=report)


@flow(name="ingest")
def ingest(
    landing: str,
    marker: str = MARKER,
    quiet_seconds: float = QUIET_SECONDS,
    skip_if_busy: bool = False,
    secrets: Secrets = {},  # noqa: B006  nobody changes it
) -> State[Any]:
    """Take every batch of the landing that is whole and was not taken before.

    Prefect stores a flow's parameters before the flow can check them. A caller whose address comes from elsewhere calls
    `refuse_secrets` first, as `python -m flows.ingest` does.

    Args:
        landing: a folder, or an address such as s3://bucket/prefix.
        marker: the file that makes its batch whole.
        quiet_seconds: a batch without the marker is whole after so long without a change.
        skip_if_busy: it is no failure if another run holds this workspace: a later run will take the batches.
        secrets: variables of the environment, each with the name of the Secret block in Prefect that has its value.
    """
    try:
        check_planned(ingest)
        check_quiet(quiet_seconds)
        take_secrets(secrets)
        with only_writer(log=get_run_logger().warning):
            store = open_store(landing)
            raw, root = paths.raw().resolve(), Path(store.address)
            if raw.is_relative_to(root) or root.is_relative_to(raw):
                raise ValueError(f"the landing {root} contains {paths.raw()}, or lies in it: expected a place apart")
            report = take_all(Landing(store, marker=marker, modality=modality()), quiet_seconds=quiet_seconds)
    except BlockingIOError as error:
        return (Completed if skip_if_busy else Failed)(message=str(error))
    except (OSError, ValueError) as error:
        return failed(in_a_line(error), reason=in_a_line(error))
    name_run(", ".join(arrival.batch for arrival in report.landed)[:100] or "nothing new")
    for warning in dict.fromkeys(report.warnings):
        get_run_logger().warning(warning)
    if report.failed:
        return failed(report.message(), reason="; ".join(report.failed))
    mended()
    return Completed(message=report.message())


def take_all(landing: Landing, *, quiet_seconds: float) -> Report:
    """Complete the arrivals that an earlier run left unfinished, then take the new batches of the landing."""
    logger = get_run_logger()
    report = Report()
    stuck: set[str] = set()
    for place, arrival in unfinished():
        if isinstance(arrival, ValueError):
            report.failed.append(str(arrival))
            continue
        logger.info("%s was on its way when an earlier run ended: going on", arrival.batch)
        outcome = run(on_one_line(arrival.name), partial(complete, arrival, place, landing))
        report.add(outcome)
        if outcome.failed and arrival.landing == landing.store.address:
            stuck.add(arrival.name)
    report.warnings += loose_ends()
    have = tracked()
    is_first = True  # also after an unfinished arrival: its event may have been sent before, and would start no run now
    listing = landing.look()
    if not (listing.batches or listing.strays or listing.marks):
        report.warnings.append(f"{landing.store.address} is empty")
    for name in listing.strays:
        endings = ", ".join(landing.single_files)
        report.warnings.append(
            f"{on_one_line(name)} is not a batch: expected folders of data and files that end in {endings}"
        )
    for batch in sorted(listing.batches, key=lambda batch: (batch.changed, batch.name)):  # in the order of landing
        name = on_one_line(batch.name)
        mark = landing.mark_of(batch, marks=listing.marks)
        if batch.name in stuck or not is_to_be_read(batch, mark, have=have, report=report):
            continue
        if why := batch.why_not_whole(quiet_seconds):
            report.waiting.append(f"{name} waits: {why}")
            logger.info("%s waits for %s or %.0f s without a change: %s", name, landing.marker, quiet_seconds, why)
            continue
        outcome = run(name, partial(take, batch, mark, landing, is_first=is_first))
        is_first = is_first and not outcome.landed
        report.add(outcome)
    return report


def run(name: str, work: Callable[[Log], Report]) -> Report:
    """Do the work on one batch in a task run of its own."""
    state: State[Any] = land(name, work, return_state=True)
    if not state.is_completed():
        return Report(failed=[state.message or name])
    report: Report = state.result()
    return report
