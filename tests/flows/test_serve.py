"""Months in minutes: a real Prefect server, `python -m flows.serve` in a real project, a landing, and somebody who is told."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
import yaml

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

SECRET = "T0PSECRET/B0/xyzzy"
INTERVAL = 4  # s, at which the landing is looked at; prefect.yaml has 60
SILENCE = 10  # s; prefect.yaml has 60


def until(found, *, seconds: float):
    """What is found in the end."""
    end = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < end, f"nothing within {seconds} s"
        time.sleep(0.2)
    return result


class Server:
    """A Prefect server of the tests' own, and what it says."""

    def __init__(self, home: Path):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        self.home = home
        self.api = f"http://127.0.0.1:{port}/api"
        self.environment = os.environ | {
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
            "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S",
        }
        self.log = home / "server.log"
        with self.log.open("w") as log:
            command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
            self.process = subprocess.Popen(
                command, cwd=home, env=self.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        until(self.is_up, seconds=120)

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.api}/health").is_success
        except httpx.HTTPError:
            return False

    def post(self, path: str, **body):
        answer = httpx.post(f"{self.api}/{path}", json=body, timeout=30)
        assert answer.is_success, answer.text
        return answer.json()

    def runs(self, flow: str, *states: str) -> list[dict]:
        """In the order in which they were asked for; of these states, or of all."""
        found = self.post("flow_runs/filter", flows={"name": {"any_": [flow]}}, sort="EXPECTED_START_TIME_ASC")
        return [run for run in found if not states or run["state"]["name"] in states]

    def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("prefect"))
    yield server
    server.end()


@pytest.fixture(scope="module")
def calls():
    """What a webhook received; its address."""
    received: list[dict] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):  # noqa: N802
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append({"path": self.path, "type": self.headers["Content-Type"]} | json.loads(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    hook = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=hook.serve_forever)
    thread.start()
    yield received, f"http://127.0.0.1:{hook.server_port}/{SECRET}"
    hook.shutdown()
    thread.join()
    hook.server_close()


@pytest.fixture(scope="module")
def workspace(finished, tmp_path_factory):
    """A finished project that is served; its clock runs faster."""
    workspace = tmp_path_factory.mktemp("served") / "workspace"
    shutil.copytree(finished, workspace, symlinks=True)
    plan = yaml.safe_load((workspace / "prefect.yaml").read_text("utf-8"))
    retrain, ingest = plan["deployments"]
    for trigger in retrain["triggers"]:
        trigger["within"] = SILENCE
    ingest["schedules"][0]["interval"] = INTERVAL
    (workspace / "prefect.yaml").write_text(yaml.safe_dump(plan), "utf-8")
    return workspace


@pytest.fixture(scope="module")
def landing(tmp_path_factory):
    return tmp_path_factory.mktemp("landing")


class Serving:
    def __init__(self, workspace: Path, server: Server, landing: Path):
        self.log = workspace.parent / "serve.log"
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.serve"],
                cwd=workspace,
                env=server.environment | {"GRAFTLINE_LANDING": str(landing)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def group(self) -> list[str]:
        """The command lines of all that it started."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(stat[3]) == self.process.pid and stat[0] != "Z":
                    found.append((folder / "cmdline").read_text().replace("\0", " "))
            except (FileNotFoundError, ProcessLookupError):
                continue
        return found


@pytest.fixture(scope="module")
def serving(workspace, server, landing):
    serving = Serving(workspace, server, landing)
    yield serving
    if serving.process.poll() is None:
        serving.process.send_signal(signal.SIGTERM)
        serving.process.wait(timeout=60)


def test_lab(server, serving, workspace, landing):
    print(server.api, workspace, landing, flush=True)
    time.sleep(3000)
