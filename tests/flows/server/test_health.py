"""What a supervisor and Prometheus are told: the text format, and an address that strangers cannot exhaust."""

import json
import socket
import time
from contextlib import contextmanager, suppress

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from prometheus_client.parser import text_string_to_metric_families

from flows.server import health
from flows.server.health import MOST_AT_ONCE, Health, HealthServer, metrics
from flows.workspace import paths

FACTS = {
    "is_healthy": True,
    "problems": [],
    "serving_since": "2026-03-01T00:00:00Z",
    "deployments": {
        'night "ly"\n\\': {
            "last_run": {"start": "2026-03-02T03:00:00Z", "has_failed": True},
            "last_success": "2026-03-01T03:00:00Z",
        },
        "ingest": {"last_run": None, "last_success": None},
    },
    "queue": {"due": 2, "running": 1},
    "model_in_use": {"version": 3, "since": "2026-02-28T00:00:00Z", "accuracy": {"label": 0.75}},
}


@contextmanager
def answering(*, is_alive=True):
    """A server of health that has no deployment, and so asks nothing of the Prefect server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = HealthServer(port, Health([], is_alive=lambda: is_alive))
    try:
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.shutdown()
        server.server_close()


def test_metrics_are_what_prometheus_reads():
    families = {family.name: family for family in text_string_to_metric_families(metrics(FACTS))}
    [failed] = families["graftline_last_run_failed"].samples
    assert failed.labels == {"deployment": 'night "ly"\n\\'}
    assert failed.value == 1
    assert {sample.labels["state"]: sample.value for sample in families["graftline_runs"].samples} == {
        "due": 2, "running": 1
    }  # fmt: skip
    assert families["graftline_model_since_seconds"].samples[0].value == 1_772_236_800
    assert families["graftline_model_accuracy"].samples[0].value == 0.75
    assert all(family.type == "gauge" and family.documentation for family in families.values())


def test_metrics_without_a_model_and_without_a_server_have_no_lines_for_them():
    text = metrics(FACTS | {"is_healthy": False, "deployments": {}, "queue": None, "model_in_use": None})
    assert "graftline_healthy 0" in text
    assert "model" not in text
    assert "runs" not in text


@pytest.fixture(autouse=True)
def nowhere():
    """Nobody listens at the address of the Prefect server."""
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield


def test_process_that_cannot_reach_prefect_is_not_healthy(bare_workspace):
    with answering() as (address, server):
        server.health.served = ["d3b07384-d9a0-4c9a-8f0e-1f2e3d4c5b6a"]
        answer = httpx.get(f"{address}/health", timeout=60)
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert any("the Prefect server does not answer" in problem for problem in answer.json()["problems"])


def test_loop_that_hangs_is_not_healthy(bare_workspace):
    with answering(is_alive=False) as (address, _):
        answer = httpx.get(f"{address}/health")
    assert answer.json()["problems"] == ["Prefect's loop has not answered for 10 s"]


def test_pages_of_other_names_and_other_paths_get_nothing(bare_workspace):
    with answering() as (address, _):
        for host in ("evil.example:80", "evil.example", ""):
            assert httpx.get(f"{address}/health", headers={"Host": host}).status_code == httpx.codes.FORBIDDEN
        assert httpx.get(f"{address}/../../etc/passwd").status_code == httpx.codes.NOT_FOUND
        assert httpx.post(f"{address}/health").status_code == httpx.codes.NOT_IMPLEMENTED


def test_many_slow_connections_keep_nobody_out_for_long(bare_workspace):
    with answering() as (address, server):
        slow = [socket.create_connection(server.server_address) for _ in range(MOST_AT_ONCE + 4)]
        try:
            begin = time.monotonic()
            while True:
                try:
                    assert json.loads(httpx.get(f"{address}/health").text)["is_healthy"]
                    break
                except httpx.TransportError:
                    assert time.monotonic() - begin < 30
                    time.sleep(0.2)
        finally:
            for connection in slow:
                connection.close()


def test_request_that_comes_byte_by_byte_ends_in_time(bare_workspace, monkeypatch):
    monkeypatch.setattr(health, "REQUEST_SECONDS", 1.0)
    with answering() as (_, server), socket.create_connection(server.server_address) as slow:
        begin = time.monotonic()
        with suppress(OSError):  # it is closed
            while time.monotonic() - begin < 20:
                slow.sendall(b"x")
                time.sleep(0.1)
        assert time.monotonic() - begin < 10


def test_line_of_the_log_of_promotions_with_other_kinds_is_a_problem(bare_workspace):
    entry = {"version": 1, "action": "promote", "model_sha256": "", "dvc_out": "", "when": 7}
    paths.promotions().parent.mkdir(parents=True, exist_ok=True)
    paths.promotions().write_text(json.dumps(entry) + "\n", "utf-8")
    with answering() as (address, _):
        answer = httpx.get(f"{address}/health")
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert len(answer.json()["problems"]) == 1


def test_port_that_is_taken_is_said(bare_workspace):
    with answering() as (_, server), pytest.raises(ValueError, match=r"port \d+ cannot be listened on .*--health-port"):
        HealthServer(server.server_port, server.health)
