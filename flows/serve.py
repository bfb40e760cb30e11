"""The deployments of prefect.yaml, served from this one process: `python -m flows.serve`. Its schedules and events start runs, each a
process of its own, beside a Prefect server and without a work pool."""

import argparse
import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner
from prefect.states import Cancelled, Cancelling

from flows.server.deployments import read_deployments
from flows.server.reach import check_server

QUERY_SECONDS = 0.5  # between two looks for runs that are due: an event's run is due at once
PREFETCH_SECONDS = (
    4.0  # a process of a run starts so long before it is due; one that holds a place longer is in the way of the next
)
# once this is told to stop: for the runs at work to end by themselves; and then, killed, to be reported
END_SECONDS, TELL_SECONDS = 3.5, 3.5


def main() -> None:
    argparse.ArgumentParser(prog="python -m flows.serve", description=__doc__).parse_args()
    try:
        deployments = read_deployments()
        check_server()
    except (ValueError, ConnectionError) as error:
        sys.exit(f"error: {error}")
    status = serve(deployments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # Python would wait for threads of Prefect's


def serve(deployments: list[RunnerDeployment]) -> int:
    """Until a signal says to stop, or Prefect fails; the exit status.

    Prefect works in a thread: in the main one it would take the signals itself, and leave what it started. Schedules are not
    paused at the end: what is due while nobody serves is done when somebody does.
    """
    runner = Runner(
        name="graftline", query_seconds=QUERY_SECONDS, prefetch_seconds=PREFETCH_SECONDS, pause_on_shutdown=False
    )
    loop = asyncio.new_event_loop()
    told, failed = threading.Event(), threading.Event()
    served: list[UUID] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())

    def work() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(_begin(runner, deployments, served))
        finally:
            failed.set()
            told.set()

    _in_background(work)
    told.wait()
    if failed.is_set():
        _kill(_children())
        return 1
    # Prefect's own way to stop ends one run after the other, and looks every 3 s whether it has
    end = time.monotonic() + END_SECONDS
    telling = _in_background(_change, served, Cancelling())
    while (telling.is_alive() or _children()) and time.monotonic() < end:
        time.sleep(0.05)
    loop.call_soon_threadsafe(time.sleep, END_SECONDS + TELL_SECONDS)  # it would call what is killed now crashed
    _kill(_children())
    _in_background(_change, served, Cancelled(message="flows.serve was stopped")).join(TELL_SECONDS)
    return 0


async def _begin(runner: Runner, deployments: list[RunnerDeployment], served: list[UUID]) -> None:
    """What events ask for is asked for once at the start: nobody may have seen them."""
    async with get_client() as client:
        for each in deployments:
            served.append(await runner.aadd_deployment(each))
            if each.triggers:
                await client.create_flow_run_from_deployment(served[-1])
    await runner.start()


def _in_background(work: Callable[..., None], *arguments: object) -> threading.Thread:
    """For what may take however long, such as a word with a server."""
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread


def _change(served: list[UUID], state: State[Any]) -> None:
    """Say at the server what becomes of the runs at work. `served` are the deployments: nobody else works for them."""
    begun = FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
    try:
        with get_client(sync_client=True) as client:
            found = client.read_flow_runs(
                deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=served)),
                flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=begun)),
            )
            for run in found:
                client.set_flow_run_state(run.id, state, force=state.is_final())
    except Exception as error:  # whatever Prefect's client raises
        sys.stderr.write(f"Prefect was not told that its runs are {state.name}: {' '.join(str(error).split())}\n")


def _children() -> list[int]:
    found: list[int] = []
    for listed in Path("/proc/self/task").glob("*/children"):  # Linux has it
        with suppress(FileNotFoundError):  # a thread that has ended
            found += map(int, listed.read_text("utf-8").split())
    return found


def _kill(processes: list[int]) -> None:
    """What they started dies with them."""
    for each in processes:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


if __name__ == "__main__":
    main()
