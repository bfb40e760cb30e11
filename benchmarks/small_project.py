"""A project whose whole chain runs in less than a minute: the demo's scans of handwriting, few of each digit, and a short training."""

import shutil
import subprocess
import sys
from pathlib import Path

from flows.workspace import commit, make_workspace

ROOT = Path(__file__).parent.parent
PICTURES_PER_CLASS = 24
SHORT = {
    "min_samples_per_class": 10,
    "epochs": 2,
    "unfreeze": 1,
    "min_accuracy": 0.5,
    "min_class_recall": 0.0,
    "max_calibration_error": 0.9,
}


def make_project(folder: Path, *, batches: int = 1) -> Path:
    """Committed, its batches tracked by DVC, nothing run."""
    make_workspace(ROOT, folder)
    scans = folder.with_name(f"{folder.name}-scans")
    subprocess.run([sys.executable, "-m", "tasks.digits", "--out", str(scans)], cwd=ROOT, check=True)
    params = (folder / "params.yaml").read_text("utf-8").splitlines()
    for key, value in SHORT.items():
        [at] = [number for number, line in enumerate(params) if line.strip().startswith(f"{key}:")]
        params[at] = f"  {key}: {value}"
    (folder / "params.yaml").write_text("\n".join(params) + "\n", "utf-8")
    names = [f"batch-{number}" for number in range(batches)]
    for number, name in enumerate(names):
        put_batch(scans, folder / "data/raw" / name, first=number * PICTURES_PER_CLASS)
        subprocess.run([sys.executable, "-m", "dvc", "add", "--quiet", f"data/raw/{name}"], cwd=folder, check=True)
    (folder / "data/batches.yaml").write_text(f"batches: [{', '.join(names)}]\n", "utf-8")
    commit(folder, "A small project")
    return folder


def put_batch(scans: Path, target: Path, *, first: int) -> None:
    """PICTURES_PER_CLASS of each digit, from that one on."""
    for folder in sorted(scans.iterdir()):
        (target / folder.name).mkdir(parents=True)
        for picture in sorted(folder.iterdir())[first : first + PICTURES_PER_CLASS]:
            shutil.copy(picture, target / folder.name)
