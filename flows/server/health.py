"""The health of `flows.serve` for a supervisor, and its metrics for Prometheus, over HTTP on this machine alone.

/health answers with JSON, 200 where the work goes on and 503 where it does not. A failed run is no fault of the server,
and a restart would not mend it: it only shows in the answer. /metrics answers in Prometheus' text format.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RD, socket
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.types import DateTime

from flows.in_use.log import read_log
from flows.workspace.redaction import in_a_line
from tasks.machine.names import on_one_line

HOST = "127.0.0.1"
HOSTS = ("127.0.0.1", "localhost")  # that a request may name: a web page of another name gets no answer
KEPT_SECONDS = 5.0  # an answer is given again for so long: a supervisor that asks often costs the server nothing
REQUEST_SECONDS = 5.0  # for a request to come whole
ANSWER_SECONDS = 10.0  # for the server and the loop of Prefect
MOST_AT_ONCE = 16  # requests
MOST_COUNTED = 200  # runs that wait or work
AT_WORK = {StateType.PENDING: "pending", StateType.RUNNING: "running", StateType.CANCELLING: "running",
           StateType.SCHEDULED: "due", StateType.PAUSED: "waiting_for_a_person"}  # fmt: skip
QUEUE = tuple(dict.fromkeys(AT_WORK.values()))
TEXT, JSON = "text/plain; version=0.0.4; charset=utf-8", "application/json"

Facts = dict[str, Any]


class Health:
    """The state of the process that serves deployments.

    Args:
        served: the deployments, once they are at the Prefect server.
        is_alive: returns whether the loop that starts runs still answers.
    """

    def __init__(self, served: Sequence[UUID], *, is_alive: Callable[[], bool]) -> None:
        self.served = served
        self.is_alive = is_alive
        self.since = datetime.now(UTC)
        self._lock = threading.Lock()
        self._kept: tuple[float, Facts] | None = None

    def facts(self) -> Facts:
        """Return the facts, at most KEPT_SECONDS old."""
        with self._lock:
            if self._kept is None or time.monotonic() - self._kept[0] > KEPT_SECONDS:
                self._kept = time.monotonic(), self._look()
            return self._kept[1]

    def _look(self) -> Facts:
        problems = [] if self.is_alive() else [f"Prefect's loop has not answered for {ANSWER_SECONDS:.0f} s"]
        facts: Facts = {"serving_since": moment(self.since), "deployments": {}, "queue": None, "model_in_use": None}
        try:
            impatient = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: ANSWER_SECONDS}
            with temporary_settings(impatient), get_client(sync_client=True) as client:
                facts |= {"deployments": deployments(client, self.served), "queue": queue(client, self.served)}
        except Exception as error:  # Prefect's client raises errors of many classes
            problems.append(f"the Prefect server does not answer: {in_a_line(error)}")
        try:
            facts["model_in_use"] = model_in_use()
        except (OSError, ValueError, TypeError, AttributeError) as error:  # a line of the log may hold anything
            problems.append(in_a_line(error))
        return facts | {"is_healthy": not problems, "problems": problems}


def deployments(client: SyncPrefectClient, served: Sequence[UUID]) -> Facts:
    """Return, by the name of each deployment, its last run and the end of the last one that succeeded."""
    return {
        client.read_deployment(deployment).name: {
            "last_run": last_run(client, deployment),
            "last_success": last_success(client, deployment),
        }
        for deployment in served
    }


def last_run(client: SyncPrefectClient, deployment: UUID) -> Facts | None:
    started = FlowRunFilter(start_time=FlowRunFilterStartTime(is_null_=False))
    runs = client.read_flow_runs(
        deployment_filter=of([deployment]), flow_run_filter=started, sort=FlowRunSort.START_TIME_DESC, limit=1
    )
    if not runs:
        return None
    [run] = runs
    state = run.state
    return {
        "name": run.name, "state": state and state.name, "start": moment(run.start_time), "end": moment(run.end_time),
        "has_failed": bool(state and (state.is_failed() or state.is_crashed())),
        "message": on_one_line((state and state.message) or ""),
    }  # fmt: skip


def last_success(client: SyncPrefectClient, deployment: UUID) -> str | None:
    completed = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.COMPLETED])))
    runs = client.read_flow_runs(
        deployment_filter=of([deployment]), flow_run_filter=completed, sort=FlowRunSort.END_TIME_DESC, limit=1
    )
    return moment(runs[0].end_time) if runs else None


def queue(client: SyncPrefectClient, served: Sequence[UUID]) -> dict[str, int]:
    """Return how many runs are due, pending, at work or waiting for a person, at most MOST_COUNTED in all."""
    waits = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(AT_WORK))),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=DateTime.now("UTC")),
    )
    runs: list[FlowRun] = []
    if served:
        runs = client.read_flow_runs(deployment_filter=of(served), flow_run_filter=waits, limit=MOST_COUNTED)
    states = [AT_WORK[run.state.type] for run in runs if run.state]
    return {state: states.count(state) for state in QUEUE}


def of(served: Sequence[UUID]) -> DeploymentFilter:
    return DeploymentFilter(id=DeploymentFilterId(any_=list(served)))


def model_in_use() -> Facts | None:
    """Return the model in use, since when, and its held-out measures. Raises ValueError where the log is damaged."""
    entries = read_log()
    if not entries:
        return None
    last = entries[-1]
    since = datetime.fromisoformat(last["when"]) if "when" in last else None
    if since and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    metrics = last.get("metrics") or {}
    return {
        "version": last["version"], "model_sha256": last["model_sha256"], "since": moment(since),
        "age_seconds": since and round((datetime.now(UTC) - since).total_seconds()),
        "accuracy": {name: measures["accuracy"] for name, measures in metrics.items() if "accuracy" in measures},
    }  # fmt: skip


def moment(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def in_seconds(time: str | None) -> float | None:
    return None if time is None else datetime.fromisoformat(time).timestamp()


def metrics(facts: Facts) -> str:
    """Return the facts in Prometheus' text format. An unknown fact has no line."""
    model = facts["model_in_use"] or {}
    runs = {label("deployment", name): run for name, run in facts["deployments"].items()}
    last = {name: run["last_run"] for name, run in runs.items() if run["last_run"]}
    lines = [
        *metric("healthy", "Whether the work goes on.", {"": int(facts["is_healthy"])}),
        *metric("serving_since_seconds", "When this process started.", {"": in_seconds(facts["serving_since"])}),
        *metric(
            "last_run_seconds", "When the last run of a deployment started.",
            {name: in_seconds(run["start"]) for name, run in last.items()},
        ),
        *metric(
            "last_run_failed", "Whether the last run of a deployment failed.",
            {name: int(run["has_failed"]) for name, run in last.items()},
        ),
        *metric(
            "last_success_seconds", "When the last run of a deployment that succeeded ended.",
            {name: in_seconds(run["last_success"]) for name, run in runs.items()},
        ),
        *metric(
            "runs", "Runs by what they do.",
            {label("state", state): number for state, number in (facts["queue"] or {}).items()},
        ),
        *metric("model_version", "The version of the model in use.", {"": model.get("version")}),
        *metric("model_since_seconds", "When the model in use was put there.", {"": in_seconds(model.get("since"))}),
        *metric(
            "model_accuracy", "The held-out accuracy of the model in use.",
            {label("target", name): share for name, share in model.get("accuracy", {}).items()},
        ),
    ]  # fmt: skip
    return "".join(f"{line}\n" for line in lines)


def metric(name: str, meaning: str, values: Mapping[str, float | None]) -> Iterator[str]:
    """Yield the lines of a gauge. `values` are by their labels."""
    known = {labels: value for labels, value in values.items() if value is not None}
    if known:
        yield f"# HELP graftline_{name} {meaning}"
        yield f"# TYPE graftline_{name} gauge"
        for labels, value in known.items():
            yield f"graftline_{name}{labels} {value!r}"


def label(name: str, value: str) -> str:
    """Return a label with its value escaped as the text format asks for."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{{{name}="{escaped}"}}'


class HealthServer(ThreadingHTTPServer):
    """Answers on the loopback address, to at most MOST_AT_ONCE requests at once.

    Raises:
        ValueError: the port is taken.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, health: Health) -> None:
        self.health = health
        self._free = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._context = copy_context()  # Prefect's settings of this moment count for the threads that answer, too
        try:
            super().__init__((HOST, port), Handler)
        except OSError as error:
            raise ValueError(
                f"port {port} cannot be listened on ({error.strerror}): name another with --health-port"
            ) from error
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            self._context.copy().run(super().process_request_thread, request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        """Do nothing: the caller has gone."""


class Handler(BaseHTTPRequestHandler):
    server: HealthServer
    timeout = REQUEST_SECONDS
    server_version, sys_version = "graftline", ""

    def setup(self) -> None:
        super().setup()
        # `timeout` begins again with each byte that comes
        self._deadline = threading.Timer(REQUEST_SECONDS, self._read_no_more)
        self._deadline.daemon = True
        self._deadline.start()

    def finish(self) -> None:
        self._deadline.cancel()
        super().finish()

    def _read_no_more(self) -> None:
        with suppress(OSError):  # the request is over
            self.connection.shutdown(SHUT_RD)

    def do_GET(self) -> None:
        if self.headers.get("Host", HOST).partition(":")[0] not in HOSTS:
            self._answer(403, "this address answers requests to 127.0.0.1 and localhost alone\n", TEXT)
        elif self.path == "/health":
            facts = self.server.health.facts()
            content = json.dumps(facts, sort_keys=True, ensure_ascii=False, indent=2) + "\n"
            self._answer(200 if facts["is_healthy"] else 503, content, JSON)
        elif self.path == "/metrics":
            self._answer(200, metrics(self.server.health.facts()), TEXT)
        else:
            self._answer(404, "expected /health or /metrics\n", TEXT)

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, status: int, text: str, kind: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            with suppress(ConnectionError):
                self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing: a supervisor asks every few seconds."""
