"""Months in minutes: a real Prefect server, `python -m flows.serve` in a real project, a landing, and somebody who is told."""

import ctypes
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
import yaml

from benchmarks.prefect_server import prefect_server
from benchmarks.small_project import put_batch

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

TOKEN = "T0PSECRET/B0/xyzzy"  # noqa: S105  as the last part of a Slack webhook is
INTERVAL = 10  # s, at which the landing is looked at; prefect.yaml has 60


def until(found, *, seconds: float):
    """What is found in the end."""
    end = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < end, f"nothing within {seconds} s"
        time.sleep(0.2)
    return result


def die_with_the_tests() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Server:
    """A Prefect server of the tests' own, and what it says."""

    def __init__(self, home: Path, environment: dict[str, str]):
        self.home = home
        self.environment = environment
        self.api = environment["PREFECT_API_URL"]

    def post(self, path: str, **body):
        for _ in range(20):
            answer = httpx.post(f"{self.api}/{path}", json=body, timeout=30)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:  # as it says when its database is busy
                break
            time.sleep(1)
        assert answer.is_success, answer.text
        return answer.json()

    def runs(self, flow: str, *states: str) -> list[dict]:
        """In the order in which they were asked for, without those of nights to come; of these states, or of all."""
        found = self.post("flow_runs/filter", flows={"name": {"any_": [flow]}}, sort="EXPECTED_START_TIME_ASC")
        found = [run for run in found if not (run["auto_scheduled"] and run["state"]["type"] == "SCHEDULED")]
        return [run for run in found if not states or run["state"]["name"] in states]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("prefect")
    soon = {
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
        "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S",
    }
    with prefect_server(home, **soon) as environment:
        yield Server(home, environment)


@pytest.fixture(scope="module")
def calls():
    """What a webhook received; its address."""
    received: list[dict] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append({"path": self.path, "type": self.headers["Content-Type"]} | json.loads(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    hook = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=hook.serve_forever)
    thread.start()
    yield received, f"http://127.0.0.1:{hook.server_port}/{TOKEN}"
    hook.shutdown()
    thread.join()
    hook.server_close()


@pytest.fixture(scope="module")
def workspace(finished, tmp_path_factory):
    """A finished project that is served; its clock runs faster."""
    workspace = tmp_path_factory.mktemp("served") / "workspace"
    shutil.copytree(finished, workspace, symlinks=True)
    plan = yaml.safe_load((workspace / "prefect.yaml").read_text("utf-8"))
    _, ingest = plan["deployments"]
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
                preexec_fn=die_with_the_tests,
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


@pytest.fixture(scope="module")
def told(server, calls, workspace):
    """`python -m flows.notify`, run twice, for the webhook; what it printed."""
    environment = server.environment | {"GRAFTLINE_WEBHOOK": calls[1]}
    command = [sys.executable, "-m", "flows.notify"]
    done = [
        subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, check=False)
        for _ in range(2)
    ]
    assert [each.returncode for each in done] == [0, 0], done[0].stderr
    return " ".join(each.stdout + each.stderr for each in done)


@pytest.fixture(scope="module")
def start(server, serving, told):
    """Ask for a run of `retrain` with parameters of its own, and return it once it is in one of some states."""

    def begin(*states: str, seconds: float = 600, **parameters) -> dict:
        identifier = until(lambda: deployment(server, "retrain"), seconds=600)
        run = server.post(f"deployments/{identifier}/create_flow_run", parameters=parameters)
        return wait(server, run["id"], *states, seconds=seconds)

    return begin


def deployment(server: Server, name: str) -> str:
    answer = httpx.get(f"{server.api}/deployments/name/{name}/{name}")
    return answer.json()["id"] if answer.is_success else ""


def wait(server: Server, run: str, *states: str, seconds: float) -> dict:
    def look():
        found = httpx.get(f"{server.api}/flow_runs/{run}").json()
        return found if found["state"]["name"] in states else None

    return until(look, seconds=seconds)


def question(server: Server, run: dict) -> str:
    """What a suspended run asks; Prefect suspends it first, and then asks."""
    key = run["state"]["state_details"]["run_input_keyset"]["description"]
    address = f"{server.api}/flow_runs/{run['id']}/input/{key}"
    return until(lambda: (answer := httpx.get(address)).is_success and answer.json(), seconds=600)


def promotions(workspace: Path) -> list[dict]:
    log = workspace / "data/models/promotions.jsonl"
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []


def test_what_waited_while_nobody_served_is_done_when_somebody_does(server, serving):
    [run] = until(lambda: server.runs("retrain", "Completed"), seconds=600)
    assert run["state"]["message"] == "nothing to do"


def test_rejected_candidate_is_told_to_the_webhook_in_words(start, calls, workspace, set_param):
    set_param(workspace, "min_accuracy", 1.0)
    start("Failed")
    call = until(lambda: next((each for each in calls[0] if each["state"] == "Failed"), None), seconds=600)
    assert call["path"] == f"/{TOKEN}"
    assert call["type"] == "application/json"
    assert call["flow"] == "retrain"
    assert "the candidate is rejected: label accuracy" in call["message"]
    assert call["text"].startswith("retrain is failed: the candidate is rejected")
    assert "/runs/flow-run/" in call["url"]
    time.sleep(1)
    assert [each["state"] for each in calls[0]] == ["Failed"]  # once, though it was set up twice


def test_candidate_that_a_person_approves_is_put_in_use(start, server, calls, workspace, set_param):
    set_param(workspace, "min_accuracy", 0.31)
    run = start("Suspended", promote="approved", approval_hours=1)
    assert promotions(workspace) == []
    call = until(lambda: next((each for each in calls[0] if each["state"] == "Suspended"), None), seconds=600)
    assert call["run"] == run["name"]
    assert "# The candidate is accepted" in question(server, run)
    answer = {"approve": True, "approved_by": "Ada", "why": "it is better"}
    server.post(f"flow_runs/{run['id']}/resume", run_input=answer)
    run = wait(server, run["id"], "Completed", "Failed", seconds=600)
    assert run["state"]["message"].startswith("the candidate is accepted, approved, and in use: ")
    [promotion] = promotions(workspace)
    assert promotion["why"] == "approved by Ada: it is better"


def test_candidate_that_a_person_declines_is_not_put_in_use(start, server, workspace, set_param):
    before = promotions(workspace)
    set_param(workspace, "min_accuracy", 0.32)
    run = start("Suspended", promote="approved", approval_hours=1)
    question(server, run)
    server.post(f"flow_runs/{run['id']}/resume", run_input={"approve": False, "why": "the lamp was broken"})
    run = wait(server, run["id"], "Completed", "Failed", seconds=600)
    assert run["state"]["message"] == "the candidate is accepted, and was not approved: the lamp was broken"
    assert promotions(workspace) == before


def test_candidate_that_nobody_judges_in_time_fails_its_run(start, server, calls, workspace, set_param):
    before = promotions(workspace)
    set_param(workspace, "min_accuracy", 0.33)
    run = start("Failed", promote="approved", approval_hours=2 / 3600)
    assert run["state"]["message"] == "The flow was paused and never resumed."
    assert promotions(workspace) == before
    until(lambda: any("never resumed" in each["message"] for each in calls[0]), seconds=600)


def test_batch_that_lands_is_trained_on_and_so_is_one_that_follows_at_once(
    server, serving, workspace, landing, digits, dvc
):
    begun = len(server.runs("retrain"))
    for batch, first in (("second", 30), ("third", 60)):
        put_batch(digits, landing / batch, first=first)
        (landing / batch / "_COMPLETE").touch()
        until(lambda batch=batch: f"landed 1 batch (240 files, 33.6 kB): {batch}" in ingested(server), seconds=600)
    used = []

    def done():
        runs = server.runs("retrain")[begun:]
        if not runs or any(run["state"]["type"] != "COMPLETED" for run in runs):
            return None
        used[:] = json.loads((workspace / "data/validated/validation.json").read_text("utf-8"))["batches"]
        return runs if "third" in used else None  # until then its event is on its way

    runs = until(done, seconds=600)
    assert used == ["first", "second", "third"]
    assert dvc(workspace, "status") == "Data and pipelines are up to date.\n"
    assert "the candidate is accepted" in [run["state"]["message"] for run in runs]
    assert server.runs("ingest", "Failed", "Crashed") == []


def ingested(server: Server) -> list[str]:
    return [run["state"]["message"] for run in server.runs("ingest", "Completed")]


def test_what_lands_just_after_a_run_has_looked_is_looked_at_by_another(server, serving):
    def begun_after(moment: datetime) -> list[dict]:
        runs = server.runs("retrain", "Completed")
        return [run for run in runs if datetime.fromisoformat(run["expected_start_time"]) > moment]

    before = datetime.now(UTC)
    emit(server, "late-0")
    until(lambda: begun_after(before), seconds=600)
    emit(server, "late-1")  # within the silence that follows the first
    emitted = datetime.now(UTC)
    runs = until(lambda: begun_after(emitted), seconds=600)
    assert {run["state"]["message"] for run in runs} == {"nothing to do"}


def emit(server: Server, batch: str) -> None:
    resource = {"prefect.resource.id": f"graftline.batch.{batch}", "graftline.project": "workspace"}
    lines = f"from prefect.events import emit_event; emit_event(event='dataset.landed', resource={resource})"
    subprocess.run([sys.executable, "-c", lines], env=server.environment, check=True)


def test_webhooks_address_is_in_no_log_and_no_file_and_is_not_shown(server, told, serving, calls):
    automations = server.post("automations/filter")
    blocks = server.post("block_documents/filter")
    names = [each["name"] for each in automations]
    assert sorted(names) == [
        "graftline: a run fell silent",
        "graftline: a run needs a person",
        "retrain when data landed",
        "retrain when the last data landed",
    ]
    shown = told + json.dumps([automations, blocks, server.post("logs/filter")]) + serving.log.read_text("utf-8")
    assert TOKEN not in shown
    for file in server.home.rglob("*"):
        if file.is_file():
            assert TOKEN.encode() not in file.read_bytes(), file


def test_saved_block_is_told_instead_of_the_webhook(server, workspace, calls, start):
    """Any notification block, by Prefect's own for a webhook."""
    received, address = calls
    lines = (
        "import sys; from prefect.blocks.notifications import CustomWebhookNotificationBlock as Block; "
        "Block(name='alarm', url=sys.argv[1] + '/block', json_data={'state': '{{subject}}', 'message': '{{body}}'}).save('alarm')"
    )
    for arguments in (["-c", lines, address], ["-m", "flows.notify", "--block", "custom-webhook/alarm"]):
        subprocess.run([sys.executable, *arguments], cwd=workspace, env=server.environment, check=True)
    before = len(received)
    start("Failed", publish_to="branch")  # which has nowhere to go
    [call] = until(lambda: received[before:], seconds=600)
    assert call["path"].endswith("/block")
    assert call["state"] == "Graftline: retrain is failed"
    assert "git has no remote" in call["message"]


def test_sigterm_ends_it_and_the_run_at_work_within_ten_seconds(server, serving, workspace, start, set_param):
    set_param(workspace, "seed", 7)
    run = start("Running")
    until(lambda: any("-m dvc" in each for each in serving.group()) or stages_at_work(workspace), seconds=600)
    before = time.monotonic()
    serving.process.send_signal(signal.SIGTERM)
    serving.process.wait(timeout=60)
    took = time.monotonic() - before
    assert serving.group() == []
    assert stages_at_work(workspace) == []
    assert took < 10
    assert run["id"]


def stages_at_work(workspace: Path) -> list[str]:
    """The processes whose current folder is this workspace."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cwd").readlink() == workspace:
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
    return found
