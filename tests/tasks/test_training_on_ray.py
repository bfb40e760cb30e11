"""Heads, folds, fine-tuning and adaptation on a real Ray cluster of two hosts, each in a network of its own."""

import filecmp
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks.kit.cluster_project import ENVIRONMENT
from benchmarks.kit.ray_cluster import ADDRESS, two_hosts
from tasks.stage.params import load_params
from tests.kit.chain import ROOT, Chain
from tests.kit.programs import SECONDS, run

NUM, NUM_DARK = 360, 90
LOOPS = {0, 6, 8, 9}
# what differs from params.yaml, where a value is the first of its name in its section
CHANGES = {
    "validate": {"min_samples_per_class": 5, "targets": "[label, loop]"},
    "finetune": {"epochs": 12, "num_views": 1, "trunks": "shared", "unfreeze": 1},
    "adapt": {"targets": "[dark, dim]", "min_unlabelled": 20},
}

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray` is not installed"),
    pytest.mark.skipif(
        subprocess.run(["unshare", "--user", "--map-root-user", "--net", "true"], capture_output=True).returncode != 0,
        reason="this machine lets nobody make network namespaces",
    ),
]


def write_digits(folder):
    """Write pictures of digits and labels.csv; the last of them are dark or dim and have no label."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    folder.mkdir(parents=True)
    rows = []
    for place, (picture, number) in enumerate(zip(digits.images[:NUM], digits.target.tolist(), strict=False)):
        domain = "bright" if place < NUM - NUM_DARK else "dark" if place % 2 else "dim"
        scan = (picture * {"bright": 15.9, "dim": 9, "dark": 4}[domain]).astype(np.uint8)
        Image.fromarray(scan).resize((16, 16)).save(folder / f"{place:03d}.png")
        label, loop = (f"digit {number}", str(number in LOOPS)) if domain == "bright" else ("", "")
        rows.append({"path": f"{place:03d}.png", "label": label, "loop": loop, "domain": domain})
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)


def write_params(file, **changes):
    """Write params.yaml with CHANGES and others, each a section."""
    text = (ROOT / "params.yaml").read_text("utf-8")
    for section, values in (CHANGES | {name: CHANGES.get(name, {}) | own for name, own in changes.items()}).items():
        for key, value in values.items():
            text, count = re.subn(rf"(?ms)^({section}:\n.*?^  {key}: )[^\n#]*", rf"\g<1>{value} ", text, count=1)
            assert count == 1, key
    file.write_text(text, "utf-8")
    load_params(file)
    return file


@pytest.fixture(scope="module")
def place():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # the path of a socket must be short
        yield Path(folder)


@pytest.fixture(scope="module")
def chain(place, great_expectations):
    """A project of two targets and three domains, up to the candidate, all on this machine."""
    params = load_params(write_params(place / "local.yaml"))
    chain = Chain(
        place / "project", validate_=params.validate_, finetune=params.finetune, adapt=params.adapt,
        train_head=replace(params.train_head, sharing="auto"),
    )  # fmt: skip
    write_digits(chain.data / "raw/first")
    chain.do("scan", "validate", "backbone", "embed", "audit", "train_head", "finetune", "adapt")
    return chain


@pytest.fixture(scope="module")
def hosts(place):
    with two_hosts(place) as cluster:
        yield cluster


@pytest.fixture
def cluster(hosts):
    for host in range(2):
        if host not in hosts.nodes:
            hosts.start(host, environment={"GLOO_SOCKET_IFNAME": ("one", "two")[host]})
    return hosts


def on_ray(place, **changes):
    scale = {"engine": "ray", "address": ADDRESS}
    return write_params(place / "ray.yaml", scale=scale, **changes)


def do(cluster, command):
    done = cluster.run(command, cwd=ROOT, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return done.stderr


def assert_same(one, other):
    compared = filecmp.dircmp(one, other)
    assert compared.left_list == compared.right_list
    assert compared.left_list
    for name in compared.left_list:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_heads_and_folds_have_the_bytes_of_one_machine(cluster, chain, place):
    do(cluster, chain.command("train_head", params=on_ray(place), out=place / "head"))
    assert_same(place / "head", chain.data / "head")
    assert "sharing" in json.loads((chain.data / "head/head.json").read_text("utf-8"))  # folds were compared


def test_domains_have_the_bytes_of_one_machine(cluster, chain, place):
    log = do(cluster, chain.command("adapt", params=on_ray(place), out=place / "adapted", facts=place / "facts"))
    assert_same(place / "adapted", chain.data / "candidate")
    assert_same(place / "facts", chain.data / "adaptation")
    assert re.search(r"domain dark, label: ", log)  # what a worker logs is read here


def finetune(chain, params, place, name):
    return chain.command(
        "finetune", params=params, out=place / name, curves=place / f"{name}-curves", scratch=place / f"{name}-scratch"
    )


def test_one_worker_fine_tunes_to_the_bytes_of_one_machine(cluster, chain, place):
    log = do(cluster, finetune(chain, on_ray(place), place, "one"))
    assert_same(place / "one", chain.data / "trained")
    assert_same(place / "one-curves", chain.data / "training")
    assert "epoch 12/12" in log
    assert "fine-tuned for 12 epochs" in log


def start_and_await_an_epoch(cluster, chain, params, place, name):
    process = subprocess.Popen(
        cluster.on(0, finetune(chain, params, place, name)), cwd=ROOT, env=ENVIRONMENT, text=True,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + SECONDS
    while not list((place / f"{name}-scratch").glob("checkpoints/*.safetensors")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.timeout(900)  # four starts of Ray Train
def test_two_workers_share_minibatches_and_resume_after_one_is_killed(cluster, chain, place):
    params = on_ray(place, finetune={"num_workers": 2})
    do(cluster, finetune(chain, params, place, "two"))
    two, one = (pd.read_csv(folder / "curves.csv") for folder in (place / "two-curves", chain.data / "training"))
    # without mixup and dropout only the order of sums differs
    assert two["train_loss"].to_numpy() == pytest.approx(one["train_loss"].to_numpy(), abs=0.003, nan_ok=True)
    assert two["val_loss"].to_numpy() == pytest.approx(one["val_loss"].to_numpy(), abs=0.003)
    process = start_and_await_an_epoch(cluster, chain, params, place, "killed")
    [worker] = cluster.workers(1, "ray::RayTrainWorker")
    os.kill(worker, signal.SIGKILL)
    _, log = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, log
    assert re.search(r"resumes after epoch \d+, where an earlier run was stopped", log)
    assert_same(place / "killed", place / "two")
    assert_same(place / "killed-curves", place / "two-curves")


def test_a_training_that_lost_the_head_ends_soon_and_says_so(cluster, chain, place):
    params = on_ray(place, finetune={"epochs": 200})
    process = start_and_await_an_epoch(cluster, chain, params, place, "headless")
    cluster.kill(0)
    _, log = process.communicate(timeout=40)  # Ray itself would wait for a minute
    cluster.kill(1)
    assert process.returncode == 1
    assert f"error: the head of the Ray cluster at {ADDRESS} no longer answers: start it again" in log
    assert "Traceback" not in log


def test_an_error_in_a_worker_is_one_line_with_its_node(cluster, chain, place):
    head = place / "no-head"
    done = cluster.run(
        chain.command("finetune", params=on_ray(place, finetune={"num_workers": 2}), head=head, out=place / "out"),
        cwd=ROOT, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.search(r"error: on the node 10\.77\.0\.\d of the Ray cluster: .*no-head", done.stderr)
    assert "Traceback" not in done.stderr
    assert not (place / "out").exists()


def test_more_workers_than_cores_are_refused(cluster, chain, place):
    done = cluster.run(
        finetune(chain, on_ray(place, finetune={"num_workers": 3}), place, "three"), cwd=ROOT, env=ENVIRONMENT
    )
    assert "error: the Ray cluster has 2 cores, expected at least 3: start nodes with" in done.stderr


def predict(chain, place, name, *more):
    return [
        sys.executable, "-m", "tasks.predict", chain.data / "candidate", chain.data / "raw/first",
        f"file://{chain.data}/raw/first/007.png", "-o", place / f"{name}.csv", "--minibatch-size", "4", *more,
    ]  # fmt: skip


def test_answers_have_the_bytes_of_one_machine(cluster, chain, place):
    """The samples tell the domain, one is no sample, and one lies at an address."""
    (chain.data / "raw/first/zzz.png").write_bytes(b"hello")
    log = do(cluster, predict(chain, place, "there", "--engine", "ray", "--address", ADDRESS))
    run(*predict(chain, place, "here"), cwd=ROOT, env=ENVIRONMENT)
    assert (place / "there.csv").read_bytes() == (place / "here.csv").read_bytes()
    assert f"predicted {NUM + 1} of {NUM + 2}" in log


def test_a_node_with_another_processor_is_refused(cluster, chain, place):
    cluster.kill(1)
    cluster.start(1, environment={"ATEN_CPU_CAPABILITY": "avx2", "GLOO_SOCKET_IFNAME": "two"})
    try:
        done = cluster.run(
            finetune(chain, on_ray(place, finetune={"num_workers": 2}), place, "other"), cwd=ROOT, env=ENVIRONMENT
        )
    finally:
        cluster.kill(1)
    assert done.returncode == 1
    assert re.search(
        r"error: on the node 10\.77\.0\.2 of the Ray cluster: its variable ATEN_CPU_CAPABILITY is avx2, expected not",
        done.stderr,
    )
    assert not (place / "other").exists()
