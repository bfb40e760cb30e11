"""Serves deployments from this one process. Schedules and events start runs, each in a process of its own."""

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

from flows.server.health import ANSWER_SECONDS, Health, HealthServer

QUERY_SECONDS = 0.5  # between two looks for runs that are due: the run of an event is due at once
# the process of a scheduled run starts so many seconds before it is due: earlier, it would only take up a place
PREFETCH_SECONDS = 4.0
# after a signal to stop: the time in which runs may end by themselves; then, after they are killed, the time to report
# that
END_SECONDS, REPORT_SECONDS = 3.5, 3.5


def serve(deployments: list[RunnerDeployment], *, health_port: int | None = None) -> int:
    """Serve until a signal stops it or Prefect fails, and return the exit status.

    Prefect works in a thread: in the main one it would handle the signals itself, and leave its child processes behind.
    Schedules are not paused at the end: a run that was due while no process
    served starts when the next process serves.

    Args:
        health_port: the port for the health of this process; None for no port.

    Raises:
        ValueError: the port is taken.
    """
    runner = Runner(
        name="graftline", query_seconds=QUERY_SECONDS, prefetch_seconds=PREFETCH_SECONDS, pause_on_shutdown=False
    )
    loop = asyncio.new_event_loop()
    is_over, has_failed = threading.Event(), threading.Event()
    served: list[UUID] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: is_over.set())

    def work() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(_begin(runner, deployments, served))
        finally:
            has_failed.set()
            is_over.set()

    if health_port is not None:
        HealthServer(health_port, Health(served, is_alive=lambda: _answers(loop)))
    _in_background(work)
    is_over.wait()
    if has_failed.is_set():
        _kill(_children())
        return 1
    # Prefect itself would end one run after the other, with a look every 3 s
    end = time.monotonic() + END_SECONDS
    reporting = _in_background(_change_state, served, Cancelling())
    while (reporting.is_alive() or _children()) and time.monotonic() < end:
        time.sleep(0.05)
    loop.call_soon_threadsafe(
        time.sleep, END_SECONDS + REPORT_SECONDS
    )  # else Prefect reports the killed runs as crashed
    _kill(_children())
    _in_background(_change_state, served, Cancelled(message="flows.serve was stopped")).join(REPORT_SECONDS)
    return 0


async def _begin(runner: Runner, deployments: list[RunnerDeployment], served: list[UUID]) -> None:
    """Add the deployments to the server, and run them until the runner stops.

    A deployment that waits for events runs once at the start: events may have come while no process served.
    """
    async with get_client() as client:
        for deployment in deployments:
            served.append(await runner.aadd_deployment(deployment))
            if deployment.triggers:
                await client.create_flow_run_from_deployment(served[-1])
    await runner.start()


def _answers(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether the loop that starts runs answers in time."""
    has_answered = threading.Event()
    with suppress(RuntimeError):  # it is closed
        loop.call_soon_threadsafe(has_answered.set)
    return has_answered.wait(ANSWER_SECONDS)


def _in_background(work: Callable[..., None], *arguments: object) -> threading.Thread:
    """Start work that may take any time, such as a request to a server."""
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread


def _change_state(served: list[UUID], state: State[Any]) -> None:
    """Report a state of all runs at work to the server. `served` are the deployments: no other process runs them."""
    at_work = FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
    try:
        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs(
                deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=served)),
                flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=at_work)),
            )
            for run in runs:
                client.set_flow_run_state(run.id, state, force=state.is_final())
    except Exception as error:  # Prefect's client raises errors of many classes
        reason = " ".join(str(error).split())
        sys.stderr.write(f"the state {state.name} of the runs could not be reported to Prefect: {reason}\n")


def _children() -> list[int]:
    pids: list[int] = []
    for children in Path("/proc/self/task").glob("*/children"):  # on Linux alone
        with suppress(FileNotFoundError):  # the thread has ended
            pids += map(int, children.read_text("utf-8").split())
    return pids


def _kill(pids: list[int]) -> None:
    """Kill the processes; their child processes die with them."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
