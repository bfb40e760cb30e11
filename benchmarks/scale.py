"""Measure what tens of millions of samples cost: packed against unpacked, and rows that nobody can hold twice.

- `packed`: 20,000 samples as files and packed into shards, in one DVC project each: seconds of `dvc add`, `push` to a
  remote on the same disk, `checkout` into an empty place and `status`, in turn, medians of the rounds.
- `rows`: 10,000,000 made-up rows in ten batches through validate (expectations, splits) and through the firewall and
  the fit of train_head, on vectors of 16 numbers: the peak of resident memory of either process.

--parts measures some of them; --quick takes fewer samples and rows.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.kit.machine import Claim, finish, parser, show
from benchmarks.pipeline import ROOT, dvc, timed
from benchmarks.validate import write_scanned
from tasks.data.health.leaks import COLUMNS, LEAKS
from tasks.data.vectors.embeddings import write_embeddings

SAMPLES, SAMPLE_BYTES, NUM_FOLDERS = 20_000, 8_000, 20
ROWS, NUM_CLASSES, DIM = 10_000_000, 10, 16
ROUNDS = 3
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
run(scanned=place / "scanned", batches=place / "batches.yaml", registry=place / "classes.json", out=place / "validated",
    validate=params.validate_, scan=params.scan, modality="images")
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
    raw: dict[str, Any] = {}
    claims: list[Claim] = []
    for name in arguments.parts:
        show(f"{name} …")
        with tempfile.TemporaryDirectory() as folder:
            raw[name], own = PARTS[name](Path(folder), arguments)
        claims += own
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
    """Return what a script prints last, run in a process of its own."""
    command: Sequence[str] = [sys.executable, "-c", script, str(place), str(ROOT / "params.yaml")]
    environment = os.environ | {"GX_ANALYTICS_ENABLED": "false"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit("a stage failed: see the lines above")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


PARTS: dict[str, Part] = {"packed": packed, "rows": rows}


if __name__ == "__main__":
    main()
