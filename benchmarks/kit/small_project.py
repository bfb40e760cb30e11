"""Make a project whose chain runs in less than a minute: a few of the demo's scans per digit, and a short training."""

import shutil
import subprocess
import sys
from pathlib import Path

from flows.workspace.working_copy import commit, make_workspace

ROOT = Path(__file__).parents[2]
PICTURES_PER_CLASS = 24
SHORT = {
    "min_samples_per_class": 10,
    "epochs": 2,
    "unfreeze": 1,
}


def make_project(folder: Path, *, batches: int = 1) -> Path:
    """Make a committed project whose batches DVC tracks; no stage has run."""
    make_workspace(ROOT, folder)
    scans = folder.with_name(f"{folder.name}-scans")
    subprocess.run([sys.executable, "-m", "tasks.demo.digits", "--out", str(scans)], cwd=ROOT, check=True)
    for key, value in SHORT.items():
        set_param(folder, key, value)
    names = [f"batch-{number}" for number in range(batches)]
    for number, name in enumerate(names):
        put_batch(scans, folder / "data/raw" / name, first=number * PICTURES_PER_CLASS)
        subprocess.run([sys.executable, "-m", "dvc", "add", "--quiet", f"data/raw/{name}"], cwd=folder, check=True)
    (folder / "data/batches.yaml").write_text(f"batches: [{', '.join(names)}]\n", "utf-8")
    commit(folder, "A small project")
    return folder


def set_param(project: Path, key: str, value: object) -> None:
    """Change a line of params.yaml. A key that two sections have needs its section: `backbone.weights`."""
    path = project / "params.yaml"
    lines = path.read_text("utf-8").splitlines()
    section, _, name = key.rpartition(".")
    start = lines.index(f"{section}:") if section else 0
    numbers = [number for number, line in enumerate(lines[start:], start) if line.strip().startswith(f"{name}:")]
    [number] = numbers[:1] if section else numbers
    indent = lines[number][: len(lines[number]) - len(lines[number].lstrip())]
    lines[number] = f"{indent}{name}: {value}"
    path.write_text("\n".join(lines) + "\n", "utf-8")


def put_batch(scans: Path, target: Path, *, first: int, count: int = PICTURES_PER_CLASS) -> None:
    """Copy `count` scans of each digit, from the scan number `first` on."""
    for folder in sorted(scans.iterdir()):
        (target / folder.name).mkdir(parents=True)
        for scan in sorted(folder.iterdir())[first : first + count]:
            shutil.copy(scan, target / folder.name)
