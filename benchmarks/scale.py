"""Measure the cost of tens of millions of samples: packed against unpacked, and tables too large for two copies.

- `packed`: 20,000 samples as files and packed into shards, in one DVC project each: seconds of `dvc add`, `push` to a
  remote on the same disk, `checkout` into an empty place and `status`, in turn, medians of the rounds.
- `rows`: 10,000,000 made-up rows in ten batches through validate (expectations, splits) and through the firewall and
  the fit of train_head, on vectors of 16 numbers: the peak of resident memory of either process.
- `writers`: 1,000 workers that add to one embedding store at once, simulated: four processes hold the files of all of
  them open, and add for one and another in turn. Then the values that a reader finds, and its time, beside ten workers.
- `ray`: made-up pictures embedded on a Ray cluster of two hosts with a network of their own, a worker of one core each.
  Speeds are of the pictures that a larger batch has more than a smaller one, so that no start-up counts: here on one
  core, on one worker that shares that core with the driver and all of Ray, and on both. Then workers and nodes are
  killed while a batch is embedded.

--parts measures some of them; --quick takes fewer samples and rows.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.kit.cluster_project import ENVIRONMENT, RESULTS, SCANNED, ClusterProject
from benchmarks.kit.machine import Claim, finish, parser, show
from benchmarks.kit.ray_cluster import Cluster, two_hosts
from benchmarks.pipeline import ROOT, dvc, timed
from benchmarks.validate import write_scanned
from tasks.data.health.leaks import COLUMNS, LEAKS
from tasks.data.store.store import Store
from tasks.data.vectors.embeddings import write_embeddings
from tasks.machine.extras import require

SAMPLES, SAMPLE_BYTES, NUM_FOLDERS = 20_000, 8_000, 20
ROWS, NUM_CLASSES, DIM = 10_000_000, 10, 16
ROUNDS = 3
PICTURES, MORE_PICTURES, PICTURE_SIDE = 2000, 8000, 128  # px; all workers have begun before the first number is done
KILLS, KILLED_PICTURES = 20, 2000
WRITERS, PROCESSES, ADDED, VALUE_BYTES = (10, 1000), 4, 100_000, 1376  # vectors of 512 numbers, and hashes
ADDED_AT_ONCE = 20
STEPS = ("add", "push", "checkout", "status")
Part = Callable[[Path, argparse.Namespace], tuple[Any, list[Claim]]]

# a child process runs these: it prints the seconds of the work without imports, and its peak memory
VALIDATE = """
import json, sys, time
from pathlib import Path
import great_expectations, great_expectations.expectations
from benchmarks.kit.machine import peak_bytes
from tasks.stage.params import load_params
from tasks.validate import run
place, params = Path(sys.argv[1]), load_params(Path(sys.argv[2]))
start = time.perf_counter()
run(scanned=place / "scanned", batches=place / "batches.yaml", registry=place / "classes.json",
    corrections=place / "corrections.csv", out=place / "validated",
    validate=params.validate_, scan=params.scan, adapt=params.adapt, modality="images")
print(json.dumps({"seconds": time.perf_counter() - start, "peak_gib": peak_bytes() / 2**30}))
"""
TRAIN_HEAD = """
import json, sys, time
from dataclasses import replace
from pathlib import Path
from benchmarks.kit.machine import peak_bytes
from tasks.stage.params import load_params
from tasks.train_head import run
place, params = Path(sys.argv[1]), load_params(Path(sys.argv[2]))
start = time.perf_counter()
run(manifests=place / "validated/manifest", classes=place / "validated/classes.json", embeddings=place / "embeddings",
    audit=place / "audit", batches=place / "batches.yaml", raw=place, out=place / "head", modality="images", seed=0,
    train_head=replace(params.train_head, l2_strengths=[0.01]))
print(json.dumps({"seconds": time.perf_counter() - start, "peak_gib": peak_bytes() / 2**30}))
"""


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="default: all")
    command.add_argument("--rows", type=int, help=f"default: {ROWS:,}; the claim is about these")
    arguments = command.parse_args()
    if "ray" in arguments.parts:
        require("ray")
    raw: dict[str, Any] = {}
    claims: list[Claim] = []
    for name in arguments.parts:
        show(f"{name} …")
        with tempfile.TemporaryDirectory() as folder:
            raw[name], claims_of_part = PARTS[name](Path(folder), arguments)
        claims += claims_of_part
    settings = {
        "quick": arguments.quick, "parts": arguments.parts, "sample_bytes": SAMPLE_BYTES, "rounds": ROUNDS,
        "num_classes": NUM_CLASSES, "dim": DIM,
    }  # fmt: skip
    finish(settings=settings, raw=raw, claims=claims)


def packed(place: Path, arguments: argparse.Namespace) -> tuple[Any, list[Claim]]:
    """Return the seconds of DVC's commands on files and on shards, and the ratios of their medians."""
    num_samples = SAMPLES // 10 if arguments.quick else SAMPLES
    write_samples(place / "samples", num_samples)
    raw: dict[str, Any] = {"samples": num_samples, "seconds": {}, "pack_seconds": []}
    for _ in range(1 if arguments.quick else ROUNDS):
        for form in ("files", "shards"):
            project = place / form
            new_project(project)
            shutil.copytree(place / "samples", project / "samples")
            if form == "shards":
                pack = [sys.executable, "-m", "tasks.pack", "--raw", str(project / "samples"), "--params"]
                raw["pack_seconds"].append(timed([*pack, str(ROOT / "params.yaml")], ROOT)[0])
                raw["shards"] = len(list((project / "samples").glob("packed-*")))
            for step, seconds in time_steps(project).items():
                raw["seconds"].setdefault(step, {}).setdefault(form, []).append(seconds)
            shutil.rmtree(project)
    raw["start_seconds"] = dvc(place, "version")[0]
    ratios = {
        step: statistics.median(of["shards"]) / statistics.median(of["files"]) for step, of in raw["seconds"].items()
    }
    return raw, [
        Claim(name=f"scale.packed_over_unpacked.{step}", value=ratio, target=0.3, at_least=False)
        for step, ratio in ratios.items()
    ]


def write_samples(folder: Path, num_samples: int) -> None:
    """Write files of random bytes in class folders."""
    rng = np.random.default_rng(0)
    for number in range(num_samples):
        file = folder / f"class {number % NUM_FOLDERS:02d}" / f"{number:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(rng.bytes(SAMPLE_BYTES))


def new_project(folder: Path) -> None:
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    dvc(folder, "init", "--quiet")
    dvc(folder, "remote", "add", "--default", "near", str(folder / "remote"))


def time_steps(project: Path) -> dict[str, float]:
    """Return the seconds of each of STEPS on the folder `samples` of a project."""
    seconds = {"add": dvc(project, "add", "samples")[0], "push": dvc(project, "push")[0]}
    shutil.rmtree(project / "samples")
    return seconds | {"checkout": dvc(project, "checkout")[0], "status": dvc(project, "status")[0]}


def rows(place: Path, arguments: argparse.Namespace) -> tuple[Any, list[Claim]]:
    """Return the seconds and the peak memory of validate and of train_head; the claim is about the larger peak."""
    num_rows = arguments.rows or (ROWS // 20 if arguments.quick else ROWS)
    with ProcessPoolExecutor(1) as apart:  # a child begins with the peak of its parent in some counts
        apart.submit(write_scanned, place, num_rows, num_classes=NUM_CLASSES).result()
    raw: dict[str, Any] = {"rows": num_rows, "validate": child(VALIDATE, place)}
    with ProcessPoolExecutor(1) as apart:
        raw["used"] = apart.submit(write_vectors, place).result()
    raw["train_head"] = child(TRAIN_HEAD, place)
    peak = max(raw[name]["peak_gib"] for name in ("validate", "train_head"))
    name = "scale.rows_10m_peak_gib" if num_rows == ROWS else f"scale.rows_{num_rows}_peak_gib"
    return raw, [Claim(name=name, value=peak, target=6, at_least=False)]


def write_vectors(place: Path) -> int:
    """Write a vector for each row of the manifests, around the centre of its class, and no leak; return the number."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(NUM_CLASSES, DIM))
    (place / "embeddings").mkdir()
    (place / "audit").mkdir()
    pd.DataFrame(columns=COLUMNS).to_csv(place / "audit" / LEAKS, index=False)
    num_rows = 0
    for file in sorted((place / "validated/manifest").glob("*.parquet")):
        codes = pd.read_parquet(file, columns=["label"])["label"].str.removeprefix("class ").astype(int).to_numpy()
        vectors = (centres[codes] + 2 * rng.normal(size=(len(codes), DIM))).astype(np.float16)
        path = place / "embeddings" / f"{file.stem}.safetensors"
        write_embeddings(path, [vectors], shape=(len(codes), DIM), recipe="made up")
        num_rows += len(codes)
    return num_rows


def child(script: str, place: Path) -> dict[str, float]:
    """Run a script in a process of its own, and return its last line."""
    command: Sequence[str] = [sys.executable, "-c", script, str(place), str(ROOT / "params.yaml")]
    environment = os.environ | {"GX_ANALYTICS_ENABLED": "false"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit("a stage failed: see the lines above")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def writers(place: Path, arguments: argparse.Namespace) -> tuple[Any, list[Claim]]:
    """Return the seconds of many writers, and of a reader after them; the claim is about values that it misses."""
    num_values = ADDED // 10 if arguments.quick else ADDED
    raw: dict[str, Any] = {"values": num_values, "seconds": {}, "read_seconds": {}, "missing": {}}
    for num_writers in WRITERS:
        store, name = Store(place / str(num_writers), recipe={}, value_bytes=VALUE_BYTES), str(num_writers)
        play = partial(play_writers, store.path, num_values=num_values, num_writers=num_writers)
        start = time.perf_counter()
        with ProcessPoolExecutor(PROCESSES) as processes:
            list(processes.map(play, range(PROCESSES)))
        raw["seconds"][name] = time.perf_counter() - start
        keys = list(map(key_of, range(num_values)))
        start = time.perf_counter()
        raw["missing"][name] = len(store.missing(keys))
        wrong = sum(int((part[:, 0] != part[:, -1]).sum()) for part in store.read(keys))
        raw["read_seconds"][name] = time.perf_counter() - start
        assert not wrong
        raw["segments"] = len(list(store.folder.glob("*.keys")))
    return raw, [
        Claim(name="scale.missing_of_1000_writers", value=raw["missing"]["1000"], target=0, at_least=False)
    ]  # fmt: skip


def play_writers(path: Path, process: int, *, num_values: int, num_writers: int) -> None:
    """Add a part of the values, for some of the writers in turn."""
    store = Store(path, recipe={}, value_bytes=VALUE_BYTES)
    segments = [store.segment() for _ in range(process, num_writers, PROCESSES)]
    numbers = np.arange(process, num_values, PROCESSES)
    for turn, some in enumerate(np.array_split(numbers, -(-len(numbers) // ADDED_AT_ONCE))):
        values = np.repeat((some % 256).astype(np.uint8)[:, None], VALUE_BYTES, axis=1)
        segments[turn % len(segments)].add(list(map(key_of, some.tolist())), values)
    for segment in segments:
        segment.close()


def key_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def ray(place: Path, arguments: argparse.Namespace) -> tuple[Any, list[Claim]]:
    """Return the speeds of a Ray cluster against this machine, whether its bytes are the same, and results of kills."""
    few, many = (PICTURES // 4, PICTURES) if arguments.quick else (PICTURES, MORE_PICTURES)
    project = ClusterProject(place / "timed", num_samples=many, side=PICTURE_SIDE, minibatch_size=None)
    killed = ClusterProject(place / "killed", num_samples=min(many, KILLED_PICTURES), side=PICTURE_SIDE)
    raw: dict[str, Any] = {"pictures": [few, many], "killed_pictures": len(killed.rows), "seconds": {}}
    with two_hosts(place) as cluster:
        for engine, hosts in (("local", 0), ("one worker", 1), ("two workers", 2)):
            for host in range(len(cluster.nodes), hosts):
                cluster.start(host, core=host)
            raw["seconds"][engine] = [
                [time_embedding(cluster, project, engine, num_samples=number) for number in (few, many)]
                for _ in range(1 if arguments.quick else ROUNDS)
            ]
        for name, engine in (("local", "local"), ("two workers", "ray")):
            checked(cluster.run(project.scan(name, engine), cwd=project.folder, env=ENVIRONMENT))
        expected = project.contents("local", (*RESULTS, *SCANNED))
        is_same = all(
            project.contents(name, files) == expected[: len(files)]
            for name, files in (("one worker", RESULTS), ("two workers", (*RESULTS, *SCANNED)))
        )
        checked(cluster.run(killed.embed("local", "local"), cwd=killed.folder, env=ENVIRONMENT))
        raw["kills"] = kills(cluster, killed, expected=killed.contents("local", RESULTS), at_least=KILLS)
    more = {
        engine: statistics.median(after - before for before, after in rounds)
        for engine, rounds in raw["seconds"].items()
    }
    survived = sum(run["kills"] for run in raw["kills"] if run["same_bytes"])
    num_kills = sum(run["kills"] for run in raw["kills"])
    return raw, [
        Claim(
            name="scale.speedup_two_workers", value=more["one worker"] / more["two workers"], target=1.7, at_least=True
        ),
        Claim(name="scale.ray_overhead", value=more["one worker"] / more["local"] - 1, target=0.15, at_least=False),
        Claim(name="scale.identical_bytes", value=int(is_same), target=1, at_least=True),
        Claim(name="scale.kills", value=num_kills, target=KILLS, at_least=True),
        Claim(name="scale.survived_kills", value=survived, target=num_kills, at_least=True),
    ]


def time_embedding(cluster: Cluster, project: ClusterProject, name: str, *, num_samples: int) -> float:
    """Return the seconds of embedding the first samples, on the first core: there the driver runs."""
    project.remove(name)
    project.list_first(num_samples)
    command = ["taskset", "--cpu-list", "0", *project.embed(name, "local" if name == "local" else "ray")]
    start = time.perf_counter()
    checked(cluster.run(command, cwd=project.folder, env=ENVIRONMENT))
    return time.perf_counter() - start


def checked(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode != 0:
        sys.exit(f"a stage failed: {done.stderr[-2000:]}")


def kills(cluster: Cluster, project: ClusterProject, *, expected: list[bytes], at_least: int) -> list[dict[str, Any]]:
    """Kill workers, and in each run the second node, while the batch is embedded; return the outcome of each run."""
    runs: list[dict[str, Any]] = []
    while sum(run["kills"] for run in runs) < at_least:
        if 1 not in cluster.nodes:
            cluster.start(1, core=1)
        project.remove("killed")
        started = subprocess.Popen(
            cluster.on(0, project.embed("killed", "ray")), cwd=project.folder, env=ENVIRONMENT,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        num_kills, stored = 0, 0
        while started.poll() is None and num_kills < 4:
            if project.stored("killed") > stored:  # some part is done since the last kill
                stored = project.stored("killed")
                if num_kills == 3:
                    cluster.kill(1)
                    num_kills += 1
                    break
                for pid in cluster.workers(num_kills % 2)[:1]:
                    os.kill(pid, signal.SIGKILL)
                    num_kills += 1
            time.sleep(0.02)
        _, stderr = started.communicate()
        is_same = started.returncode == 0 and project.contents("killed") == expected
        runs.append({"kills": num_kills, "same_bytes": is_same, "error": "" if is_same else stderr[-500:]})
    return runs


PARTS: dict[str, Part] = {"packed": packed, "rows": rows, "writers": writers, "ray": ray}


if __name__ == "__main__":
    main()
