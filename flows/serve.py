"""The deployments of prefect.yaml, served from this one process: `python -m flows.serve`. Its schedules and events start runs, each a
process of its own, beside a Prefect server and without a work pool."""

import argparse
import asyncio
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner
from prefect.settings import PREFECT_API_URL

from flows.deployments import read_deployments
from flows.stores import refuse_secrets

ADVICE = "`prefect server start`, then `export PREFECT_API_URL=http://127.0.0.1:4200/api`"
QUERY_SECONDS = 1.0  # between two looks for runs that are due: an event's run is due at once
PREFETCH_SECONDS = (
    4.0  # a process of a run starts so long before it is due; one that holds a place longer is in the way of the next
)
STOP_SECONDS = 8.0  # for the runs at work to end, and to be reported as cancelled; then they are killed


def main() -> None:
    argparse.ArgumentParser(prog="python -m flows.serve", description=__doc__).parse_args()
    try:
        deployments = read_deployments()
        for each in deployments:
            refuse_secrets(str(each.parameters.get("landing", "")))
        check_server()
    except (ValueError, ConnectionError) as error:
        sys.exit(f"error: {error}")
    sys.exit(serve(deployments))


def check_server() -> None:
    """Raises ConnectionError where there is no server that could schedule anything."""
    address = PREFECT_API_URL.value()
    if not address:
        raise ConnectionError(
            f"PREFECT_API_URL names no Prefect server, and what Prefect starts without one runs no schedules: {ADVICE}"
        )
    with get_client(sync_client=True) as client:
        if problem := client.api_healthcheck():
            raise ConnectionError(f"there is no Prefect server at {address} ({type(problem).__name__}): {ADVICE}")


def serve(deployments: list[RunnerDeployment]) -> int:
    """Until a signal says to stop, or Prefect fails; the exit status.

    Prefect works in a thread: in the main one it would take the signals itself, and leave what it started. Schedules are not
    paused at the end: what is due while nobody serves is done when somebody does.
    """
    runner = Runner(
        name="graftline", query_seconds=QUERY_SECONDS, prefetch_seconds=PREFETCH_SECONDS, pause_on_shutdown=False
    )
    loop = asyncio.new_event_loop()
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())

    def work() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(_begin(runner, deployments))
        finally:
            told.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    told.wait()
    was_told = thread.is_alive()
    if was_told and runner.started:
        asyncio.run_coroutine_threadsafe(runner.astop(), loop)
        thread.join(STOP_SECONDS)
    _kill_children()
    return 0 if was_told else 1


async def _begin(runner: Runner, deployments: list[RunnerDeployment]) -> None:
    """What events ask for is asked for once at the start: nobody may have seen them."""
    async with get_client() as client:
        for each in deployments:
            identifier = await runner.aadd_deployment(each)
            if each.triggers:
                await client.create_flow_run_from_deployment(identifier)
    await runner.start()


def _kill_children() -> None:
    """Those that are left; what they started dies with them."""
    for listed in Path("/proc/self/task").glob("*/children"):  # Linux has it
        for number in listed.read_text("utf-8").split():
            with suppress(ProcessLookupError):
                os.kill(int(number), signal.SIGKILL)


if __name__ == "__main__":
    main()
