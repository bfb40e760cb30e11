"""The deployments of prefect.yaml, served from this one process: `python -m flows.serve`. Its schedules and events start runs, each a
process of its own, beside a Prefect server and without a work pool."""

import argparse
import asyncio
import sys

from prefect.client.orchestration import get_client
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner
from prefect.settings import PREFECT_API_URL

from flows.deployments import read_deployments
from flows.stores import refuse_secrets

ADVICE = "`prefect server start`, then `export PREFECT_API_URL=http://127.0.0.1:4200/api`"


def main() -> None:
    argparse.ArgumentParser(prog="python -m flows.serve", description=__doc__).parse_args()
    try:
        deployments = read_deployments()
        for each in deployments:
            refuse_secrets(str(each.parameters.get("landing", "")))
        check_server()
    except (ValueError, ConnectionError) as error:
        sys.exit(f"error: {error}")
    asyncio.run(serve(deployments))


def check_server() -> None:
    """Raises ConnectionError where there is no server that could schedule anything."""
    address = PREFECT_API_URL.value()
    if not address:
        raise ConnectionError(
            f"PREFECT_API_URL names no Prefect server, and one without it runs no schedules: {ADVICE}"
        )
    with get_client(sync_client=True) as client:
        if problem := client.api_healthcheck():
            raise ConnectionError(f"there is no Prefect server at {address} ({type(problem).__name__}): {ADVICE}")


async def serve(deployments: list[RunnerDeployment]) -> None:
    """Until it is told to stop. Schedules are not paused then: what is due while nobody serves is done when somebody does; what events
    ask for is begun at once, for nobody may have seen them."""
    runner = Runner(name="graftline", limit=None, pause_on_shutdown=False)
    async with get_client() as client:
        for each in deployments:
            identifier = await runner.aadd_deployment(each)
            if each.triggers:
                await client.create_flow_run_from_deployment(identifier)
    await runner.start()


if __name__ == "__main__":
    main()
