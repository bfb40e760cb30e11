"""Tools for tests of a served project: a real Prefect server seen from outside, and a project in a hurry."""

import ctypes
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import yaml

from flows.server.password import CLIENT
from tests.kit.programs import SECONDS
from tests.kit.sharing import copied

ENDS = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
ASKING_SECONDS = 0.5  # between two questions to a server, which spends 15 ms on each
NO_NIGHT = "0 3 29 2 *"  # so that none falls into a test


def until(look: Callable[[], Any], *, seconds: float = SECONDS, pause_seconds: float = 0.2) -> Any:
    """Look again and again, and return the first result that is true. A test fails where there is none in time."""
    end = time.monotonic() + seconds
    while not (result := look()):
        assert time.monotonic() < end, f"nothing within {seconds} s"
        time.sleep(pause_seconds)
    return result


def die_with_the_tests() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def processes_in(folder: Path) -> dict[int, str]:
    """Return the command lines, by pid, of the processes that work in the folder. Linux only."""
    commands = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if (process / "cwd").readlink() == folder:
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                commands[int(process.name)] = line.decode(errors="replace")
    return commands


def hurried(project: Path, target: Path, *, seconds: int) -> Path:
    """A copy of it in which the landing is looked at so often; prefect.yaml has 60 s. Each look is a process."""
    copied(project, target)
    plan = yaml.safe_load((target / "prefect.yaml").read_text("utf-8"))
    retrain, ingest = plan["deployments"]
    retrain["schedules"][0]["cron"] = NO_NIGHT
    ingest["schedules"][0]["interval"] = seconds
    (target / "prefect.yaml").write_text(yaml.safe_dump(plan), "utf-8")
    return target


class Server:
    """A Prefect server of the tests' own, asked over HTTP."""

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self.home = home
        self.environment = environment
        self.api = environment["PREFECT_API_URL"]
        self.login = tuple(environment[CLIENT].split(":", 1))

    def post(self, path: str, **body: Any) -> Any:
        return self._answer("POST", path, body)

    def emit(self, batch: str, *, order: str) -> None:
        """Report that a batch landed, the first or a further one of an ingest."""
        event = {
            "event": "dataset.landed",
            "id": str(uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
            "resource": {"prefect.resource.id": f"graftline.batch.{batch}", "graftline.order": order},
        }
        self._answer("POST", "events", [event])

    def save(self, block: Any, name: str) -> None:
        """Save a block of Prefect's."""
        from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: self.api, PREFECT_API_AUTH_STRING: self.environment[CLIENT]}):
            block.save(name)

    def forget(self, run: dict[str, Any]) -> None:
        answer = self._asked("DELETE", f"flow_runs/{run['id']}")
        assert answer.is_success or answer.status_code == httpx.codes.NOT_FOUND, answer.text  # asked twice

    def runs(self, flow: str, *states: str) -> list[dict[str, Any]]:
        """Return the runs of a flow, the first request first, without scheduled ones; in these states, or in any."""
        runs = self.post("flow_runs/filter", flows={"name": {"any_": [flow]}}, sort="EXPECTED_START_TIME_ASC")
        runs = [run for run in runs if not (run["auto_scheduled"] and run["state"]["type"] == "SCHEDULED")]
        return [run for run in runs if not states or run["state"]["name"] in states]

    def wait(self, identifier: str, *states: str, seconds: float = SECONDS) -> dict[str, Any]:
        """Return the run once it is in one of these states. A test fails where the run ended in another."""

        def look() -> Any:
            run = self._answer("GET", f"flow_runs/{identifier}")
            state = run["state"]
            has_ended = state["type"] in ENDS and state["name"] not in states
            assert not has_ended, f"{state['name']}, not {states}: {state['message']}\n{self.logs(run)}"
            return run if state["name"] in states else None

        return self.until(look, seconds=seconds)

    def until(self, look: Callable[[], Any], *, seconds: float = SECONDS) -> Any:
        """Do what `until` does, with what asks this server."""
        return until(look, seconds=seconds, pause_seconds=ASKING_SECONDS)

    def deployment(self, name: str, *, flow: str = "") -> str:
        """Return the identifier of a deployment once it exists; its flow has the same name, or is given."""
        return str(self.until(lambda: self._found(f"deployments/name/{flow or name}/{name}"))["id"])

    def input(self, run: dict[str, Any], key: str) -> Any:
        """Return an input of a run, or None where it is not stored yet."""
        return self._found(f"flow_runs/{run['id']}/input/{key}")

    def logs(self, run: dict[str, Any]) -> str:
        """Return the log of a run."""
        lines = self.post("logs/filter", logs={"flow_run_id": {"any_": [run["id"]]}}, sort="TIMESTAMP_ASC")
        return "\n".join(line["message"] for line in lines)

    @cached_property
    def _token(self) -> dict[str, str]:
        """The headers by which a request that changes something shows that it comes from no other page."""
        token = self._answer("GET", "csrf-token?client=tests")["token"]
        return {"Prefect-Csrf-Client": "tests", "Prefect-Csrf-Token": token}

    def _found(self, path: str) -> Any:
        answer = self._asked("GET", path)
        return None if answer.status_code == httpx.codes.NOT_FOUND else _content(answer)

    def _answer(self, method: str, path: str, body: Any = None) -> Any:
        return _content(self._asked(method, path, body))

    def _asked(self, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = self._token if method != "GET" else {}
        settings = {"json": body, "headers": headers, "auth": self.login, "timeout": 60}
        settings["verify"] = False  # else httpx reads all certificates for each request
        for _ in range(20):
            with suppress(httpx.TimeoutException):
                answer = httpx.request(method, f"{self.api}/{path}", **settings)
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:  # its database is busy
                    return answer
            time.sleep(1)
        raise AssertionError(f"{path}: the server is busy all the time")


def _content(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None
