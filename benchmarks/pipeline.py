"""Measure the cost of a run of the whole chain: seconds per stage, the share of imports, and whether it reproduces.

A fresh clone runs `make demo` (with cached packages). `dvc repro` with nothing to do is timed against that of an empty
three-stage pipeline, in turn. Two forced runs are compared byte for byte. If the shared data is there, the
sign-language digits run with the ImageNet SqueezeNet; --quick fine-tunes it for fewer epochs.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.kit.machine import Claim, finish, parse_arguments
from flows.workspace.paths import stages
from flows.workspace.working_copy import make_workspace

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
SIGNS = SHARED / "data/sign-digits.tar"
WEIGHTS = SHARED / "weights/squeezenet1_1-imagenet.safetensors"
NOOP_ROUNDS = 7
EMPTY_STAGES = ("one", "two", "three")


def main() -> None:
    arguments = parse_arguments(__doc__)
    raw: dict[str, Any] = {}
    claims: list[Claim] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        clone = place / "clone"
        make_workspace(ROOT, clone)
        raw["demo_seconds"], _ = timed(["make", "demo"], clone)
        claims.append(Claim(name="pipeline.demo_seconds", value=raw["demo_seconds"], target=180, at_least=False))
        demo = clone / "demo"
        raw["noop_seconds"], raw["empty_seconds"] = time_noop(demo, empty_pipeline(place / "empty"))
        over = statistics.median(raw["noop_seconds"]) - statistics.median(raw["empty_seconds"])
        claims.append(Claim(name="pipeline.noop_over_empty_seconds", value=over, target=2, at_least=False))
        raw["stage_seconds"], raw["is_reproducible"] = force_twice(demo)
        raw["import_seconds"] = {stage: import_seconds(stage) for stage in raw["stage_seconds"]}
        share = sum(raw["import_seconds"].values()) / sum(raw["stage_seconds"].values())
        raw["import_share"] = share
        claims.append(Claim(name="pipeline.reproducible", value=float(raw["is_reproducible"]), target=1, at_least=True))
        if SIGNS.is_file() and WEIGHTS.is_file():
            raw["signs"] = run_signs(place / "signs", epochs=2 if arguments.quick else 6)
            accuracy = raw["signs"]["candidate"]
            claims.append(Claim(name="pipeline.signs_heldout_accuracy", value=accuracy, target=0.95, at_least=True))
    finish(settings={"quick": arguments.quick, "noop_rounds": NOOP_ROUNDS}, raw=raw, claims=claims)


def timed(command: list[str], folder: Path) -> tuple[float, str]:
    """Return the seconds and the output of a command. If it fails, exit with its output."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}")
    return time.perf_counter() - start, done.stdout


def dvc(folder: Path, *arguments: str) -> tuple[float, str]:
    return timed([sys.executable, "-m", "dvc", *arguments], folder)


def empty_pipeline(folder: Path) -> Path:
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    dvc(folder, "init", "--quiet")
    stages = {name: {"cmd": f"echo {name} > {name}.txt", "outs": [f"{name}.txt"]} for name in EMPTY_STAGES}
    (folder / "dvc.yaml").write_text(json.dumps({"stages": stages}), "utf-8")  # JSON is YAML
    dvc(folder, "repro")
    return folder


def time_noop(demo: Path, empty: Path) -> tuple[list[float], list[float]]:
    """Time both pipelines in turn, after a warm-up of each."""
    dvc(demo, "repro")
    dvc(empty, "repro")
    pairs = [(dvc(demo, "repro")[0], dvc(empty, "repro")[0]) for _ in range(NOOP_ROUNDS)]
    return [first for first, _ in pairs], [second for _, second in pairs]


def force_twice(demo: Path) -> tuple[dict[str, float], bool]:
    """Return the seconds of each stage, forced one by one, and whether two forced runs give the same dvc.lock."""
    dvc(demo, "repro", "--force")
    first = (demo / "dvc.lock").read_bytes()
    names = stages(demo / "dvc.yaml")
    seconds = {name: dvc(demo, "repro", "--force", "--single-item", name)[0] for name in names}
    return seconds, (demo / "dvc.lock").read_bytes() == first


def import_seconds(stage: str) -> float:
    """Return the seconds of a stage's imports in a fresh process, without the start of Python itself."""
    loads = "import great_expectations" if stage == "validate" else "pass"
    bare, _ = timed([sys.executable, "-c", "pass"], ROOT)
    full, _ = timed([sys.executable, "-c", f"import tasks.{stage}; {loads}"], ROOT)
    return full - bare


def run_signs(workspace: Path, *, epochs: int) -> dict[str, float]:
    """Run `dvc repro` on photographs of hands with the ImageNet SqueezeNet.

    Return the held-out accuracy of `candidate` and `head`, num_heldout, seconds and epochs.
    """
    make_workspace(ROOT, workspace)
    with tarfile.open(SIGNS) as archive:
        archive.extractall(workspace / "data/raw", filter="data")
    shutil.copy(WEIGHTS, workspace / "backbones")
    (workspace / "data/batches.yaml").write_text("batches: [sign-digits]\n", "utf-8")
    settings = {
        "backbone.architecture": "squeezenet1_1",
        "backbone.weights": f"backbones/{WEIGHTS.name}",
        "backbone.features": "penultimate",
        "finetune.unfreeze": "3",
        "finetune.epochs": str(epochs),
    }
    path = workspace / "params.yaml"
    text = path.read_text("utf-8")
    for name, value in settings.items():
        section, key = name.split(".")
        text = re.sub(rf"(?m)^({section}:\n(?:  .*\n)*?  {key}:) [^#\n]*", rf"\1 {value} ", text)
    path.write_text(text, "utf-8")
    seconds, _ = dvc(workspace, "repro")
    measured = json.loads((workspace / "data/evaluation/metrics.json").read_text("utf-8"))["label"]
    accuracies = {name: measured[name]["accuracy"] for name in ("candidate", "head")}
    subject = json.loads((workspace / "data/evaluation/subject.json").read_text("utf-8"))
    return accuracies | {"num_heldout": subject["num_heldout"], "seconds": seconds, "epochs": epochs}


if __name__ == "__main__":
    main()
