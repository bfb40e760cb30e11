"""A Prefect server on loopback for a measurement, with a home of its own. It ends with the `with` block."""

import base64
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.server.password import CLIENT, SERVER

START_SECONDS = 600  # a busy machine takes long; a server that ends is detected at once
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # ignores the environment's proxy


@contextmanager
def prefect_server(home: Path, *, folder: Path | None = None, **settings: str) -> Iterator[dict[str, str]]:
    """Start a server and yield the environment, with `settings`, for the processes that use it.

    Args:
        folder: the server starts there, and its password is the one of that folder; None: here, with one of its own.

    Raises:
        TimeoutError: it does not start; the message has the server's output.
    """
    home.mkdir(parents=True, exist_ok=True)
    with free_port() as port:
        environment = os.environ | {
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            **({} if folder else dict.fromkeys((SERVER, CLIENT), f"graftline:{secrets.token_urlsafe()}")),
            **settings,
        }
        process = started(port, environment, home / "server.log", folder=folder)
        try:
            yield environment
        finally:
            end(process)


def ask(environment: dict[str, str], path: str, question: Any) -> Any:
    """Return the server's answer to a question that is posted to a path of its API."""
    api, login = environment["PREFECT_API_URL"], base64.b64encode(environment[CLIENT].encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json", "Prefect-Csrf-Client": "kit"}
    token = _answer(f"{api}/csrf-token?client=kit", None, headers)["token"]
    return _answer(f"{api}/{path}", json.dumps(question).encode(), headers | {"Prefect-Csrf-Token": token})


@contextmanager
def free_port() -> Iterator[int]:
    """Yield a free port, which stays bound until the block ends.

    The system gives a bound port to no other connection, and still lets a server listen on it.
    """
    with socket.socket() as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(("127.0.0.1", 0))
        yield place.getsockname()[1]


def started(port: int, environment: dict[str, str], log: Path, *, folder: Path | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("ab") as out:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        if answers(f"http://127.0.0.1:{port}/api/health", process):
            return process
    except BaseException:
        end(process)
        raise
    end(process)
    raise TimeoutError(f"the Prefect server did not start:\n{log.read_text('utf-8', errors='replace')[-4000:]}")


def answers(address: str, process: subprocess.Popen[bytes]) -> bool:
    """Return whether the server answers within START_SECONDS, before its process ends."""
    last = time.monotonic() + START_SECONDS
    while time.monotonic() < last and process.poll() is None:
        try:
            with DIRECT.open(address, timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    return False


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answer(address: str, body: bytes | None, headers: dict[str, str]) -> Any:
    request = urllib.request.Request(address, data=body, headers=headers)  # noqa: S310  on loopback
    with DIRECT.open(request, timeout=10) as answer:
        return json.loads(answer.read())
