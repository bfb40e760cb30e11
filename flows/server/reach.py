"""Checks that a Prefect server can be reached and asks for a password: who reaches an open one can run any command."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_CLIENT_CUSTOM_HEADERS,
    PREFECT_CLIENT_MAX_RETRIES,
    get_current_settings,
    temporary_settings,
)
from sqlalchemy import make_url

from flows.server.password import CLIENT, FILE, make_password
from flows.workspace.environment import can_be_written, settle_environment
from flows.workspace.redaction import in_a_line
from tasks.machine.names import on_one_line

ADVICE = "`prefect server start` in this folder, then `export PREFECT_API_URL=http://127.0.0.1:4200/api`"
FOR_A_RUN = (
    "start it, correct PREFECT_API_URL or the profile that names it, or put "
    "`PREFECT_API_URL= PREFECT_PROFILE=ephemeral` before the command, which then runs with a temporary server"
)
OK = 200
POSTGRES_PORT = 5432
CERTIFICATES = "SSL_CERT_FILE"  # read by each client and server
ANSWER_SECONDS = 5.0  # for a server's first answer; looking its name up can take as long again
# the settings by which a client shows who it is
CREDENTIALS: dict[Any, Any] = {PREFECT_API_AUTH_STRING: None, PREFECT_API_KEY: None, PREFECT_CLIENT_CUSTOM_HEADERS: {}}


def check_server() -> None:
    """Check that there is a server that schedules runs, and that it asks for a password, which this process has.

    Where there is no password yet, one is made.

    Raises:
        ConnectionError: there is no such server.
        OSError: the password cannot be written.
    """
    settle_environment()
    check_certificates()
    settings = get_current_settings()
    if settings.api.auth_string is None and settings.api.key is None:
        make_password()
    address = settings.api.url
    if not address:
        raise ConnectionError(
            "PREFECT_API_URL names no Prefect server, and the temporary one that Prefect starts then runs no "
            f"schedules: {ADVICE}"
        )
    if problem := why_no_answer():
        raise ConnectionError(f"there is no Prefect server at {address} ({problem}): {ADVICE}")
    with get_client(sync_client=True) as client:
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


def check_server_of_a_run() -> None:
    """Check that the server which a run reports to answers, or that Prefect may start a temporary one.

    Raises:
        ConnectionError: neither. It is known within ten seconds, where Prefect itself would try for minutes.
    """
    check_certificates()
    settings = get_current_settings()
    address = settings.api.url
    if address:
        if problem := why_no_answer():
            raise ConnectionError(f"the Prefect server at {address} does not answer ({problem}): {FOR_A_RUN}")
    elif not settings.server.ephemeral.enabled:
        raise ConnectionError(
            "PREFECT_API_URL names no Prefect server, and the settings forbid a temporary one "
            "(PREFECT_SERVER_ALLOW_EPHEMERAL_MODE): allow it, by PREFECT_PROFILE=ephemeral too, or name a server"
        )
    else:
        if database := settings.server.database.connection_url:
            check_database(database.get_secret_value())
        start_temporary_server(settings.home, seconds=settings.server.ephemeral.startup_timeout_seconds)


def check_certificates() -> None:
    """Raise ConnectionError if the environment names a file of certificates that is not there."""
    named = os.environ.get(CERTIFICATES)
    if named and not Path(named).is_file():
        raise ConnectionError(
            f"{CERTIFICATES} names {on_one_line(named)}, which is not a file: correct it, or `unset {CERTIFICATES}`"
        )


def check_database(address: str) -> None:
    """Raise ConnectionError if Prefect's database is on a host that does not answer; a file is not checked."""
    url = make_url(address)
    if not url.host:
        return
    try:
        socket.create_connection((url.host, url.port or POSTGRES_PORT), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise ConnectionError(
            f"the database of Prefect's temporary server, {url.host}:{url.port or POSTGRES_PORT}, does not answer "
            f"({in_a_line(error)}): start it, or correct PREFECT_SERVER_DATABASE_CONNECTION_URL"
        ) from error


def start_temporary_server(home: Path, *, seconds: float) -> None:
    """Start the server that the run will find. Raises ConnectionError where it cannot start in this time."""
    if not can_be_written(home):
        raise ConnectionError(
            f"Prefect's temporary server keeps its database in {home}, which cannot be written to: set PREFECT_HOME to "
            "a folder of yours, or PREFECT_API_URL to a server"
        )

    def start() -> None:
        with get_client(sync_client=True):
            pass

    if problem := problem_of(start, seconds=seconds):  # Prefect starts one that fails again and again
        raise ConnectionError(
            f"Prefect's temporary server does not start ({problem}): `prefect server start` shows why"
        )


def why_no_answer() -> str | None:
    """Return why the server does not answer; None where it does."""

    def ask() -> None:
        impatient = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: ANSWER_SECONDS}
        with temporary_settings(impatient), get_client(sync_client=True) as client:
            if error := client.api_healthcheck():
                raise error

    return problem_of(ask, seconds=2 * ANSWER_SECONDS - 1)


def problem_of(work: Callable[[], None], *, seconds: float) -> str | None:
    """Do some work, and return why it failed or that it takes too long; None where it succeeds."""
    problems = [f"no answer within {seconds:.0f} s"]

    def try_it() -> None:
        try:
            work()
            problems.clear()
        except PrefectHTTPStatusError as error:
            problems[:] = [f"status {error.response.status_code}"]
        except Exception as error:  # Prefect raises errors of many classes
            problems[:] = [in_a_line(error)]

    trying = threading.Thread(target=try_it, daemon=True)  # neither a look-up of a name nor a start can be ended
    trying.start()
    trying.join(seconds)
    return problems[0] if problems else None


def is_open() -> bool:
    """Return whether the server answers without a password."""
    with temporary_settings(CREDENTIALS), get_client(sync_client=True) as stranger:
        return status_of(stranger) == OK


def status_of(client: SyncPrefectClient) -> int:
    """Return the HTTP status of the server's answer to a client."""
    try:
        client.api_version()
    except PrefectHTTPStatusError as error:
        return error.response.status_code
    return OK
