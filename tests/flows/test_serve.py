"""`python -m flows.serve` in a real project, with a real Prefect server, a landing and a webhook for alarms."""

import fcntl
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock

from benchmarks.kit.prefect_server import prefect_server
from benchmarks.kit.process_tree import is_running
from benchmarks.kit.small_project import put_batch
from tests.kit import programs
from tests.kit.programs import SECONDS
from tests.kit.sharing import copied
from tests.kit.watching import Server, die_with_the_tests, hurried, processes_in, until

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

TOKEN = "T0PSECRET/B0/xyzzy"  # noqa: S105  it looks like the last part of a Slack webhook


@pytest.fixture(scope="module")
def server(new_home):
    home = new_home()
    with prefect_server(home) as environment:
        yield Server(home, environment)


@pytest.fixture(scope="module")
def calls():
    """The calls that a webhook received, and its address."""
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
    thread.join(SECONDS)
    hook.server_close()


@pytest.fixture(scope="module")
def workspace(finished, tmp_path_factory):
    """A finished project that is served. Runs of `retrain` differ by their deployment.

    The landing is looked at when a test asks for it; test_work_pool.py waits for the schedule.
    """
    workspace = hurried(finished, tmp_path_factory.mktemp("served") / "workspace", seconds=86_400)
    plan = yaml.safe_load((workspace / "prefect.yaml").read_text("utf-8"))
    retrain = plan["deployments"][0]
    others = {
        "asking": {"promote": "approved", "approval_hours": 1},
        "asking in vain": {"promote": "approved", "approval_hours": 2 / 3600},
        "sharing": {"publish_to": "branch"},
    }
    for name, parameters in others.items():
        other = retrain | {"name": name, "parameters": retrain["parameters"] | parameters}
        plan["deployments"].append(other | {"schedules": [], "triggers": []})
    (workspace / "prefect.yaml").write_text(yaml.safe_dump(plan), "utf-8")
    return workspace


@pytest.fixture(scope="module")
def landing(tmp_path_factory):
    return tmp_path_factory.mktemp("landing")


class Serving:
    def __init__(self, workspace: Path, server: Server, landing: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = workspace.parent / "serve.log"
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.serve", "--health-port", str(self.port)],
                cwd=workspace,
                env=server.environment | {"GRAFTLINE_LANDING": str(landing)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_the_tests,
            )


@pytest.fixture(scope="module")
def serving(workspace, server, landing):
    serving = Serving(workspace, server, landing)
    yield serving
    if serving.process.poll() is None:
        serving.process.send_signal(signal.SIGTERM)
        serving.process.wait(timeout=60)


@pytest.fixture(scope="module")
def alarms(server, calls, workspace):
    """Run `python -m flows.notify` twice for the webhook, and return the output."""
    environment = server.environment | {"GRAFTLINE_WEBHOOK": calls[1]}
    done = [programs.run_module("flows.notify", cwd=workspace, env=environment) for _ in range(2)]
    return " ".join(run.stdout + run.stderr for run in done)


@pytest.fixture(scope="module")
def start(server, serving, alarms):
    """Ask for a run of a deployment of `retrain`, and return it once it is in one of the states."""

    def begin(*states: str, deployment: str = "retrain") -> dict:
        return server.wait(requested(server, "retrain", deployment=deployment), *states)

    return begin


def requested(server: Server, flow: str, *, deployment: str) -> str:
    """Ask for a run, and return its identifier."""
    once = str(uuid4())  # a server that is busy may have made the run all the same
    place = f"deployments/{server.deployment(deployment, flow=flow)}/create_flow_run"
    return str(server.post(place, idempotency_key=once)["id"])


def question(server: Server, run: dict) -> str:
    """Return the question of a suspended run. Prefect first suspends the run, then stores the question."""
    return server.until(lambda: server.input(run, run["state"]["state_details"]["run_input_keyset"]["description"]))


def promotions(workspace: Path) -> list[dict]:
    log = workspace / "data/models/promotions.jsonl"
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []


def test_run_that_was_due_while_nobody_served_starts_when_somebody_serves(server, serving):
    [run] = server.until(lambda: server.runs("retrain", "Completed"))
    assert run["state"]["message"] == "nothing to do"


def test_health_and_metrics_say_when_each_deployment_last_ran(server, serving):
    server.until(lambda: server.runs("retrain", "Completed"))
    address = f"http://127.0.0.1:{serving.port}"

    def ran():
        facts = httpx.get(f"{address}/health").json()
        return facts if facts["deployments"].get("retrain", {}).get("last_success") else None

    facts = until(ran)
    assert facts["is_healthy"], facts
    assert facts["deployments"]["retrain"]["last_run"]["state"] == "Completed"
    assert set(facts["deployments"]) == {"retrain", "ingest", "asking", "asking in vain", "sharing"}
    assert facts["queue"]["waiting_for_a_person"] == 0
    lines = httpx.get(f"{address}/metrics").text.splitlines()
    assert "graftline_healthy 1" in lines
    assert 'graftline_last_run_failed{deployment="retrain"} 0' in lines
    assert httpx.get(f"{address}/health", headers={"Host": "evil.example"}).status_code == httpx.codes.FORBIDDEN


PROBE = """
import json
import sys
from multiprocessing import get_context
from pathlib import Path
from prefect import flow

def report(file):
    Path(file).write_text(json.dumps(sys.path), "utf-8")

@flow
def probe(file: str):
    child = get_context("spawn").Process(target=report, args=(f"{file}.part",))
    child.start()
    child.join(60)
    Path(f"{file}.part").rename(file)
"""


def test_child_of_a_served_run_has_no_folder_of_the_flow_on_its_path(server, empty_project, landing, tmp_path):
    """multiprocessing hands the parent's path to the child, with all that the loading of the flow left in it."""
    workspace = copied(empty_project, tmp_path / "workspace")
    (workspace / "flows/probe.py").write_text(PROBE, "utf-8")
    plan = yaml.safe_load((workspace / "prefect.yaml").read_text("utf-8"))
    [deployment, _] = plan["deployments"]
    entrypoint = deployment["entrypoint"].replace("retrain", "probe")
    file = tmp_path / "path.json"
    deployment |= {"name": "probe", "entrypoint": entrypoint, "parameters": {"file": str(file)}}
    deployment |= {"schedules": [], "triggers": []}
    (workspace / "prefect.yaml").write_text(yaml.safe_dump({"deployments": [deployment]}), "utf-8")
    serving = Serving(workspace, server, landing)
    try:
        server.post(f"deployments/{server.deployment('probe')}/create_flow_run")
        until(lambda: file.exists() or serving.process.poll() is not None)
    finally:
        serving.process.terminate()
        serving.process.wait(timeout=60)
    assert file.exists(), serving.log.read_text("utf-8")
    path = [str(Path(folder).absolute()) for folder in json.loads(file.read_text("utf-8"))]
    assert str(workspace) in path
    assert str(workspace / "flows") not in path


def test_batches_of_one_ingest_start_one_run_and_those_of_another_at_once_their_own(server, serving):
    server.until(lambda: server.runs("retrain", "Completed"))  # the run of the start comes after the trigger is set up
    num_before = len(server.runs("retrain"))
    for batch, order in (("a", "first"), ("b", "further"), ("c", "first"), ("d", "further")):
        server.emit(batch, order=order)
    server.until(lambda: len(server.runs("retrain", "Completed")[num_before:]) == 2)
    server.emit("e", order="first")  # when its run has come, the runs of earlier events have come too
    server.until(lambda: len(server.runs("retrain", "Completed")[num_before:]) >= 3)
    runs = server.runs("retrain")[num_before:]
    assert len(runs) == 3
    assert {run["created_by"]["display_value"] for run in runs} == {"retrain when data landed"}


def test_rejected_candidate_is_reported_to_the_webhook_in_words(start, calls, workspace, set_param):
    set_param(workspace, "min_accuracy", 1.0)
    run = start("Failed")
    call = until(lambda: next((call for call in calls[0] if call["state"] == "Failed"), None))
    assert call["path"] == f"/{TOKEN}"
    assert call["type"] == "application/json"
    assert call["flow"] == "retrain"
    assert "the candidate is rejected: label accuracy" in call["message"]
    assert call["text"].startswith("retrain is failed: `the candidate is rejected")
    assert "/runs/flow-run/" in call["url"]
    other = start("Failed", deployment="sharing")  # there is no remote
    until(lambda: any(call["run"] == other["name"] for call in calls[0]))
    assert {call["run"] for call in calls[0]} == {run["name"], other["name"]}  # a busy server may call twice


def test_candidate_that_a_person_declines_is_not_put_in_use(start, server, workspace, set_param):
    before = promotions(workspace)
    set_param(workspace, "min_accuracy", 0.32)
    lost = start("Suspended", deployment="asking")
    server.forget(lost)  # like a server that lost its database; the next run asks again
    run = start("Suspended", deployment="asking")
    question(server, run)
    server.post(f"flow_runs/{run['id']}/resume", run_input={"approve": False, "why": "the lamp was broken"})
    run = server.wait(run["id"], "Completed", "Failed")
    assert run["state"]["message"] == "the candidate is accepted, and was not approved: the lamp was broken"
    assert promotions(workspace) == before
    assert start("Completed", deployment="asking")["state"]["message"] == "nothing to do"


def test_candidate_without_an_answer_in_time_fails_its_run(start, server, calls, workspace, set_param):
    before = promotions(workspace)
    set_param(workspace, "min_accuracy", 0.33)
    run = start("Failed", deployment="asking in vain")
    assert run["state"]["message"] == "The flow was paused and never resumed."
    assert promotions(workspace) == before
    until(lambda: any("never resumed" in call["message"] for call in calls[0]))


def test_approved_candidate_is_put_in_use_despite_other_runs_and_nobody_is_asked_twice(
    start, server, calls, workspace, set_param
):
    set_param(workspace, "min_accuracy", 0.34)
    run = start("Suspended", deployment="asking")
    assert promotions(workspace) == []
    until(lambda: any(call["run"] == run["name"] and call["state"] == "Suspended" for call in calls[0]))
    assert "# The candidate is accepted" in question(server, run)
    nightly = start("Completed", "Suspended", deployment="asking")
    asked = f"the candidate is accepted, and another run asks a person about it: {run['name']}"
    assert nightly["state"]["message"] == asked
    with held(workspace):
        other = start("Running", deployment="asking")
        server.until(lambda: "waiting" in server.logs(other))
        answer = {"approve": True, "approved_by": "Ada", "why": "it is better"}
        server.post(f"flow_runs/{run['id']}/resume", run_input=answer)
        server.until(lambda: "waiting" in server.logs(run))
    run = server.wait(run["id"], "Completed", "Failed")
    assert run["state"]["message"].startswith("the candidate is accepted, approved, and in use: ")
    assert [entry["why"] for entry in promotions(workspace)] == ["approved by Ada: it is better"]
    other = server.wait(other["id"], "Completed", "Suspended")
    # either run may be first
    assert other["state"]["message"] in (asked, "the candidate is accepted, and in use already")


@contextmanager
def held(workspace: Path):
    """Hold the workspace as another process would."""
    with (workspace / ".dvc/tmp/graftline.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_batch_that_lands_and_one_that_follows_at_once_are_trained_on(server, serving, workspace, landing, digits, dvc):
    num_before = len(server.runs("retrain"))
    for batch, first in (("second", 30), ("third", 60)):
        put_batch(digits, landing / batch, first=first, count=6)
        (landing / batch / "_COMPLETE").touch()
        landed = f"landed 1 batch (60 files, 8.4 kB): {batch}"
        until(lambda landed=landed: ingested(server) == landed, pause_seconds=5)  # a run may hold the workspace
    used = []

    def done():
        runs = server.runs("retrain")[num_before:]
        if not runs or any(run["state"]["type"] != "COMPLETED" for run in runs):
            return None
        used[:] = json.loads((workspace / "data/validated/validation.json").read_text("utf-8"))["batches"]
        return runs if "third" in used else None  # else its event is still on its way

    runs = server.until(done)
    assert used == ["first", "second", "third"]
    assert dvc(workspace, "status") == "Data and pipelines are up to date.\n"
    assert "the candidate is accepted" in [run["state"]["message"] for run in runs]
    assert server.runs("ingest", "Failed", "Crashed") == []


def ingested(server: Server) -> str:
    """Have the landing looked at, and return the message of that run."""
    return str(server.wait(requested(server, "ingest", deployment="ingest"), "Completed")["state"]["message"])


def test_address_of_the_webhook_is_in_no_log_and_no_file(server, alarms, serving, calls):
    server.until(lambda: server.runs("retrain", "Completed"))  # that of the start, which follows the trigger
    automations = server.post("automations/filter")
    blocks = server.post("block_documents/filter")
    names = [automation["name"] for automation in automations]
    assert sorted(names) == [
        "graftline: a run fell silent",
        "graftline: a run needs a person",
        "retrain when data landed",
    ]
    shown = alarms + json.dumps([automations, blocks, server.post("logs/filter")]) + serving.log.read_text("utf-8")
    assert TOKEN not in shown
    for file in server.home.rglob("*"):
        if file.is_file():
            assert TOKEN.encode() not in file.read_bytes(), file


def test_saved_block_replaces_the_webhook(server, workspace, calls, start):
    """Any notification block works; this one is Prefect's own for a webhook."""
    received, address = calls
    data = {"state": "{{subject}}", "message": "{{body}}"}
    block = CustomWebhookNotificationBlock(name="alarm", url=f"{address}/block", json_data=data)
    server.save(block, "alarm")
    programs.run_module("flows.notify", "--block", "custom-webhook/alarm", cwd=workspace, env=server.environment)
    before = len(received)
    start("Failed", deployment="sharing")  # there is no remote
    [call] = until(lambda: received[before:])
    assert call["path"].endswith("/block")
    assert call["state"] == "Graftline: retrain is failed"
    assert "git has no remote" in call["message"]


def test_sigterm_ends_serving_and_the_run_at_work_within_ten_seconds(server, serving, workspace, start, set_param):
    set_param(workspace, "seed", 7)
    run = start("Running")
    until(lambda: stages(workspace))
    started = processes_in(workspace)
    before = time.monotonic()
    serving.process.send_signal(signal.SIGTERM)
    serving.process.wait(timeout=60)
    until(lambda: not any(map(is_running, started)))
    assert time.monotonic() - before < 10
    assert server.wait(run["id"], "Cancelled", "Crashed", seconds=30)


def stages(workspace: Path) -> list[str]:
    """Return the command lines of the stages at work."""
    commands = processes_in(workspace).values()
    return [command for command in commands if "-m tasks." in command and "-m tasks.check " not in command]
