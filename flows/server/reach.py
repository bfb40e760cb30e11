"""Checks that a Prefect server can be reached."""

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

ADVICE = "`prefect server start`, then `export PREFECT_API_URL=http://127.0.0.1:4200/api`"


def check_server() -> None:
    """Raise ConnectionError if there is no server that could schedule runs."""
    address = PREFECT_API_URL.value()
    if not address:
        raise ConnectionError(
            "PREFECT_API_URL names no Prefect server, and the temporary one that Prefect starts then runs no "
            f"schedules: {ADVICE}"
        )
    with get_client(sync_client=True) as client:
        if problem := client.api_healthcheck():
            raise ConnectionError(f"there is no Prefect server at {address} ({type(problem).__name__}): {ADVICE}")
