"""The address of the Prefect server that runs report to."""

from prefect.settings import get_current_settings


def address() -> str | None:
    """Return the address that Prefect's settings give; None where a run starts a temporary server."""
    return get_current_settings().api.url
