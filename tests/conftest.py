"""Real projects for the tests: working copies of this repository with a little of the handwritten digits in them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tasks  # noqa: F401  it says how threads wait, before torch starts any

ROOT = Path(__file__).parent.parent
PICTURES_PER_CLASS = 24


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The demo's batch: a folder a digit, all of it."""
    out = tmp_path_factory.mktemp("digits") / "digits"
    subprocess.run([sys.executable, "-m", "tasks.digits", "--out", str(out)], cwd=ROOT, check=True)
    return out


@pytest.fixture(scope="session")
def put_batch(digits) -> Callable[..., None]:
    """Put the pictures of each digit from `first` on into a workspace as a batch, and list it."""

    def put(workspace: Path, name: str, *, first: int = 0, count: int = PICTURES_PER_CLASS) -> None:
        for folder in sorted(digits.iterdir()):
            target = workspace / "data/raw" / name / folder.name
            target.mkdir(parents=True)
            for picture in sorted(folder.iterdir())[first : first + count]:
                shutil.copy(picture, target)
        listed = workspace / "data/batches.yaml"
        text = listed.read_text("utf-8")
        listed.write_text(text.replace("[]", f"[{name}]") if "[]" in text else text.replace("]", f", {name}]"), "utf-8")

    return put


@pytest.fixture(scope="session")
def set_param() -> Callable[..., None]:
    """Change a line of a workspace's params.yaml."""

    def change(workspace: Path, key: str, value: object) -> None:
        path = workspace / "params.yaml"
        lines = path.read_text("utf-8").splitlines()
        [at] = [number for number, line in enumerate(lines) if line.strip().startswith(f"{key}:")]
        indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
        lines[at] = f"{indent}{key}: {value}"
        path.write_text("\n".join(lines) + "\n", "utf-8")

    return change


@pytest.fixture(scope="session")
def dvc() -> Callable[..., str]:
    """Run DVC in a workspace and return what it printed; a test fails where it does."""

    def run(workspace: Path, *arguments: str, status: int = 0) -> str:
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=workspace,
            env=environment | {"DVC_NO_ANALYTICS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    return run


@pytest.fixture(scope="session")
def new_workspace(tmp_path_factory, set_param) -> Callable[[], Path]:
    """A fresh working copy whose params make a run short."""
    from flows.workspace import make_workspace

    def make() -> Path:
        workspace = tmp_path_factory.mktemp("project") / "workspace"
        make_workspace(ROOT, workspace)
        set_param(workspace, "min_samples_per_class", 10)
        set_param(workspace, "epochs", 1)
        set_param(workspace, "unfreeze", 1)
        set_param(workspace, "min_accuracy", 0.5)
        set_param(workspace, "min_class_recall", 0.0)
        set_param(workspace, "max_calibration_error", 0.9)
        return workspace

    return make


@pytest.fixture(scope="session")
def finished(new_workspace, put_batch, dvc, tmp_path_factory) -> Path:
    """A working copy with one batch, brought up to date, committed and pushed to a DVC remote. Copy it, never change it."""
    from flows.workspace import commit

    workspace = new_workspace()
    put_batch(workspace, "first")
    dvc(workspace, "remote", "add", "--default", "store", str(tmp_path_factory.mktemp("remote")))
    dvc(workspace, "add", "data/raw/first")
    dvc(workspace, "repro")
    dvc(workspace, "push")
    commit(workspace, "first run")
    return workspace


@pytest.fixture
def project(finished, tmp_path) -> Path:
    """A copy of `finished` that a test may change."""
    copy = tmp_path / "project"
    shutil.copytree(finished, copy, symlinks=True)
    return copy
