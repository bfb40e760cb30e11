"""Replicas of a service on a real Ray cluster of one node, which takes no command without a token."""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
import torch

from benchmarks.kit.process_tree import descendants
from benchmarks.kit.ray_cluster import QUIET, RAY
from flows.in_use.exchange import put_in_place
from tasks.models.bundle import save_bundle
from tasks.models.classifier import Classifier
from tasks.models.weights import load_backbone
from tasks.prediction.answer_log import answer_files, read_answers
from tests.kit.programs import SECONDS, running
from tests.kit.service import serving

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | QUIET | {
    "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
}  # fmt: skip
TOKEN = "a-token-of-these-tests"  # noqa: S105
NUM_REPLICAS = 2

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("ray", "grpc")), reason="the extra `ray` is not installed"
)


def until(look, *, process):
    """Return what `look` returns once that is true, while the process runs."""
    deadline = time.monotonic() + SECONDS
    while not (seen := look()):
        assert process.poll() is None, process.stderr.read() if process.stderr else process.args
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return seen


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def place():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # the path of a socket must be short
        yield Path(folder)


@pytest.fixture(scope="module")
def node(place):
    """The process of Ray's one node, and its address."""
    port = free_port()
    options = [
        "--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false",
        f"--temp-dir={place}/ray", f"--num-cpus={NUM_REPLICAS}", "--object-store-memory=300000000",
        "--disable-usage-stats", "--block",
    ]  # fmt: skip
    log = place / "node.log"
    with (
        log.open("w") as file,
        running(sys.executable, "-c", RAY, "start", *options, env=ENVIRONMENT, stdout=file, stderr=file) as process,
    ):
        until(lambda: "block forever" in log.read_text(), process=process)
        try:
            yield process, f"127.0.0.1:{port}"
        finally:
            for pid in descendants(process.pid):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def bundles(place):
    """Three bundles: that of the service, and those that take its place."""

    def make(number):
        folder = place / f"bundle-{number}"
        folder.mkdir()
        torch.manual_seed(number)
        network = load_backbone("shufflenet_v2_x0_5", weights="random", image_size=32)
        save_bundle(folder, Classifier(network, {"animal": ["cat", "dog", "eel"], "place": ["in", "out"]}), lineage={})
        return folder

    return [make(number) for number in range(3)]


@pytest.fixture(scope="module")
def service(place, node, bundles):
    """A service of two replicas that wants a token: its process and a client that has it."""
    port = free_port()
    (place / "token").write_text(f"{TOKEN}\n")
    with served(place, node[1], port, "--token-file", "token", "--log", "log") as process:
        headers = {"authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=SECONDS) as client:
            until(lambda: process.stderr.readline().startswith(f"{NUM_REPLICAS} replicas answer at"), process=process)
            yield process, client


def served(place, address, port, *options):
    return running(
        sys.executable, "-m", "tasks.serve", "bundle-0", "--engine", "ray", "--address", address, "--port", str(port),
        "--replicas", str(NUM_REPLICAS), *options, cwd=place, env=ENVIRONMENT, stderr=subprocess.PIPE,
    )  # fmt: skip


def ask(client, *files):
    return client.post("/predict", files=[("file", file) for file in files])


@pytest.fixture
def files(picture):
    """Names and contents of pictures; the last is no picture."""

    def content(seed):
        with tempfile.TemporaryFile() as file:
            picture(seed, width=40, height=48).save(file, "PNG")
            file.seek(0)
            return file.read()

    return [*((f"{seed}.png", content(seed)) for seed in range(20)), ("none.png", b"no picture")]


def test_a_port_that_is_in_use_is_named(place, node, bundles):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with served(place, node[1], port) as process:
            _, errors = process.communicate(timeout=SECONDS)
    assert errors == (
        f"error: a node of the Ray cluster cannot listen at 127.0.0.1:{port}: choose another --host or --port\n"
    )
    assert process.returncode == 1


def test_a_bundle_that_no_replica_can_use_is_named_with_the_node(place, node, bundles):
    weights = bundles[0] / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    try:
        with served(place, node[1], free_port()) as process:
            _, errors = process.communicate(timeout=SECONDS)
    finally:
        weights.write_bytes(whole)
    assert re.fullmatch(r"error: on the node \S+ of the Ray cluster: bundle-0.*\n", errors)


def test_replicas_answer_as_one_machine_does_to_the_last_bit(service, bundles, files):
    _, client = service
    with serving(bundles[0]) as alone:
        expected = alone.ask(*files).json()
    for _ in range(2 * NUM_REPLICAS):
        assert ask(client, *files).json() == expected


def test_who_has_no_token_is_refused_and_learns_the_status_alone(service, files):
    _, client = service
    for given in ("none", "Bearer another-token-of-these-tests"):
        headers = {"authorization": given}
        assert client.post("/predict", files=dict([files[0]]), headers=headers).status_code == 401
        assert client.get("/metrics", headers=headers).status_code == 401
        assert client.get("/health", headers=headers).json() == {"status": "ok"}


def test_health_and_metrics_are_those_of_all_replicas(service):
    _, client = service
    health = client.get("/health").json()
    assert health["status"] == "ok"
    assert [own["model"] for own in health["replicas"].values()] == [health["model"]] * NUM_REPLICAS
    metrics = client.get("/metrics").text
    for replica in health["replicas"]:
        assert (
            f'graftline_serve_model_loaded_timestamp_seconds{{model="{health["model"]}",replica="{replica}"}}'
            in metrics
        )


def test_no_request_is_lost_while_the_model_is_replaced(service, place, bundles, files):
    process, client = service
    answers = []
    is_over = threading.Event()

    def keep_asking(number):
        while not is_over.is_set():
            answers.append(ask(client, files[number], files[number + 1]))

    askers = [threading.Thread(target=keep_asking, args=(number,)) for number in range(4)]
    for asker in askers:
        asker.start()

    def models():
        return {own["model"] for own in client.get("/health").json()["replicas"].values()}

    try:
        [before] = models()
        for number in (1, 2):
            put_in_place(shutil.copytree(bundles[number], place / "new"), bundles[0], old=place / f"old-{number}")
            until(lambda before=before: len(models()) == 1 and before not in models(), process=process)
            [before] = models()
    finally:
        is_over.set()
        for asker in askers:
            asker.join()
    assert {answer.status_code for answer in answers} == {200}
    assert len({row["model"] for answer in answers for row in answer.json()["predictions"]}) == 3


def test_a_killed_replica_is_replaced_and_no_answer_leaves_the_log(service, place, node, files):
    process, client = service
    for _ in range(2 * NUM_REPLICAS):
        assert ask(client, ("first.png", files[0][1])).status_code == 200
    before = set(client.get("/health").json()["replicas"])
    pids = [pid for pid, command in descendants(node[0].pid).items() if command.startswith("ray::ServeReplica")]
    assert len(pids) == NUM_REPLICAS
    os.kill(pids[0], signal.SIGKILL)

    def replaced():
        answer = client.get("/health")
        return answer.status_code == 200 and len(set(answer.json()["replicas"]) - before) == 1

    until(replaced, process=process)
    assert ask(client, ("last.png", files[0][1])).status_code == 200
    process.terminate()
    assert process.wait(SECONDS) == 0
    logged = [row for file in answer_files([place / "log"]) for row in read_answers(file).to_pylist()]
    assert [row["path"] for row in logged].count("first.png") == 2 * 2 * NUM_REPLICAS  # two targets
    assert [row["path"] for row in logged].count("last.png") == 2
    assert not list((place / "log").glob(".*"))
