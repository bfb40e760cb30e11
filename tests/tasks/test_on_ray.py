"""scan and embed on a real Ray cluster of two hosts, each in a network of its own."""

import os
import re
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.kit.cluster_project import ENVIRONMENT, SCANNED, ClusterProject
from benchmarks.kit.ray_cluster import ADDRESS, RAY, two_hosts
from tests.kit.programs import SECONDS, run

NUM_SAMPLES = 320  # ten parts
OTHER_VERSION = f"import ray; ray.__version__ = '2.0.0'; {RAY}"

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray` is not installed"),
    pytest.mark.skipif(
        subprocess.run(["unshare", "--user", "--map-root-user", "--net", "true"], capture_output=True).returncode != 0,
        reason="this machine lets nobody make network namespaces",
    ),
]


@pytest.fixture(scope="module")
def place():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # the path of a socket must be short
        yield Path(folder)


@pytest.fixture(scope="module")
def project(place):
    """A batch with a torn picture, scanned and embedded on this machine into the folder `local`."""
    project = ClusterProject(place, num_samples=NUM_SAMPLES, side=96)
    (project.raw / "class 0/torn.png").write_bytes((project.raw / "class 0/000000.png").read_bytes()[:100])
    for command in (project.scan("local", "local"), project.embed("local", "local")):
        run(*command, cwd=place, env=ENVIRONMENT)
    return project


@pytest.fixture(scope="module")
def hosts(place):
    with two_hosts(place) as cluster:
        yield cluster


@pytest.fixture
def cluster(hosts):
    """The hosts with both nodes; what a test killed is started again."""
    for host in range(2):
        if host not in hosts.nodes:
            hosts.start(host)
    return hosts


def error_of(done):
    """The one line that the user reads."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line.removeprefix("error: ")


def started(cluster, project, name):
    """Start to embed on the cluster, and return the process once a part is stored."""
    process = subprocess.Popen(
        cluster.on(0, project.embed(name, "ray")), cwd=project.folder, env=ENVIRONMENT, text=True,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + SECONDS
    while not project.stored(name):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def ended(process):
    _, stderr = process.communicate(timeout=SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, "", stderr)


def test_an_address_that_nobody_answers_is_refused_at_once(hosts, project):
    for command in (project.embed("nobody", "ray"), project.scan("nobody", "ray")):
        done = hosts.run(command, cwd=project.folder, env=ENVIRONMENT)
        assert error_of(done).startswith(f"no Ray cluster answers at {ADDRESS}: start one with `ray start --head`")
    assert not (project.folder / "nobody/scanned").exists()
    assert not project.stored("nobody")


def test_a_cluster_of_another_version_is_refused(hosts, project):
    hosts.start(0, script=OTHER_VERSION)
    try:
        error = error_of(hosts.run(project.scan("other", "ray"), cwd=project.folder, env=ENVIRONMENT))
        assert re.search(r"cannot join the Ray cluster at 10\.77\.0\.1:6379: Version mismatch: .*2\.0\.0", error)
    finally:
        hosts.kill(0)


def test_two_nodes_give_the_bytes_of_one_machine(cluster, project):
    for command in (project.scan("two", "ray"), project.embed("two", "ray")):
        done = cluster.run(command, cwd=project.folder, env=ENVIRONMENT)
        assert done.returncode == 0, done.stderr
    assert f"embedded {NUM_SAMPLES} of {NUM_SAMPLES} samples" in done.stderr
    assert project.contents("two", SCANNED) == project.contents("local", SCANNED)
    assert project.contents("two") == project.contents("local")
    assert len(list((project.folder / "two/store").rglob("*.keys"))) >= 2  # each worker writes a segment of its own


def test_a_sample_that_vanished_is_named_with_the_node(cluster, project):
    sample = project.raw / "class 1/000001.png"
    content = sample.read_bytes()
    sample.unlink()
    try:
        error = error_of(cluster.run(project.embed("gone", "ray"), cwd=project.folder, env=ENVIRONMENT))
    finally:
        sample.write_bytes(content)
    assert re.match(r"on the node 10\.77\.0\.\d of the Ray cluster: sample .*class 1/000001\.png is missing", error)
    assert not (project.folder / "gone/vectors.safetensors").exists()


def test_a_killed_worker_and_a_killed_node_cost_no_byte(cluster, project):
    process = started(cluster, project, "killed")
    for pid in cluster.workers(0)[:1]:
        os.kill(pid, signal.SIGKILL)
    cluster.kill(1)
    done = ended(process)
    assert done.returncode == 0, done.stderr
    assert project.contents("killed") == project.contents("local")


def test_a_run_that_lost_the_head_says_so_and_the_next_one_continues(cluster, project):
    process = started(cluster, project, "headless")
    cluster.kill(0)
    error = error_of(ended(process))
    assert error.startswith(f"the head of the Ray cluster at {ADDRESS} no longer answers: start it again")
    assert not (project.folder / "headless/vectors.safetensors").exists()
    cluster.kill(1)
    done = run(*project.embed("headless", "local"), cwd=project.folder, env=ENVIRONMENT)
    new = int(re.search(r"embedded (\d+) of", done.stderr)[1])
    assert 0 < new < NUM_SAMPLES
    assert project.contents("headless") == project.contents("local")


def test_two_hosts_fill_one_store_at_once(hosts, project):
    """Without Ray: each host embeds the whole batch, and neither waits for the other."""
    commands = []
    for host in range(2):
        command = project.embed("shared", "local")
        command[command.index("--out") + 1] = f"shared/vectors-{host}.safetensors"
        command[command.index("--hashes") + 1] = f"shared/hashes-{host}.safetensors"
        commands.append(hosts.on(host, command))
    processes = [
        subprocess.Popen(command, cwd=project.folder, env=ENVIRONMENT, text=True, stderr=subprocess.PIPE)
        for command in commands
    ]
    for process in processes:
        assert ended(process).returncode == 0
    for host in range(2):
        files = (f"vectors-{host}.safetensors", f"hashes-{host}.safetensors")
        assert project.contents("shared", files) == project.contents("local")
