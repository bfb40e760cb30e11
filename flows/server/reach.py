"""Checks that a Prefect server can be reached, and that it asks for a password: who reaches it can run any command."""

from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_CLIENT_CUSTOM_HEADERS,
    get_current_settings,
    temporary_settings,
)

from flows.server.password import CLIENT, FILE, make_password

ADVICE = "`prefect server start` in this folder, then `export PREFECT_API_URL=http://127.0.0.1:4200/api`"
OK = 200
# all by which a client shows who it is
CREDENTIALS: dict[Any, Any] = {PREFECT_API_AUTH_STRING: None, PREFECT_API_KEY: None, PREFECT_CLIENT_CUSTOM_HEADERS: {}}


def check_server() -> None:
    """Check that there is a server that schedules runs, and that it asks for a password, which this process has.

    Where there is no password yet, one is made.

    Raises:
        ConnectionError: there is no such server.
        OSError: the password cannot be written.
    """
    settings = get_current_settings()
    if settings.api.auth_string is None and settings.api.key is None:
        make_password()
    address = settings.api.url
    if not address:
        raise ConnectionError(
            "PREFECT_API_URL names no Prefect server, and the temporary one that Prefect starts then runs no "
            f"schedules: {ADVICE}"
        )
    with get_client(sync_client=True) as client:
        if problem := client.api_healthcheck():
            raise ConnectionError(f"there is no Prefect server at {address} ({type(problem).__name__}): {ADVICE}")
        if is_open():
            raise ConnectionError(
                f"the Prefect server at {address} asks for no password, so that whoever reaches it, a web page "
                f"included, can run commands as you: start it again in this folder, where {FILE} has a password "
                "for it, then run again"
            )
        if (status := status_of(client)) != OK:
            raise ConnectionError(
                f"the Prefect server at {address} refuses the password of this folder ({status}): start it again in "
                f"this folder, or set {CLIENT} in {FILE} to the password that it has"
            )


def is_open() -> bool:
    """Return whether the server answers whoever asks."""
    with temporary_settings(CREDENTIALS), get_client(sync_client=True) as stranger:
        return status_of(stranger) == OK


def status_of(client: SyncPrefectClient) -> int:
    """Return the HTTP status of the server's answer to a client."""
    try:
        client.api_version()
    except PrefectHTTPStatusError as error:
        return error.response.status_code
    return OK
