"""Real projects for the tests: working copies of this repository with a little of the handwritten digits in them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tasks  # noqa: F401  it says how threads wait, before torch starts any
from benchmarks.kit import small_project
from tests.kit.programs import SECONDS

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The demo's batch: a folder a digit, all of it."""
    out = tmp_path_factory.mktemp("digits") / "digits"
    subprocess.run(
        [sys.executable, "-m", "tasks.demo.digits", "--out", str(out)], cwd=ROOT, check=True, timeout=SECONDS
    )
    return out


@pytest.fixture(scope="session")
def put_batch(digits) -> Callable[..., None]:
    """Put the pictures of each digit from `first` on into a workspace as a batch, and list it."""

    def put(workspace: Path, name: str, *, first: int = 0, count: int = small_project.PICTURES_PER_CLASS) -> None:
        small_project.put_batch(digits, workspace / "data/raw" / name, first=first, count=count)
        listed = workspace / "data/batches.yaml"
        text = listed.read_text("utf-8")
        listed.write_text(text.replace("[]", f"[{name}]") if "[]" in text else text.replace("]", f", {name}]"), "utf-8")

    return put


@pytest.fixture(scope="session")
def set_param() -> Callable[..., None]:
    """Change a line of a workspace's params.yaml."""
    return small_project.set_param


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
            timeout=SECONDS,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    return run


@pytest.fixture(scope="session")
def new_workspace(tmp_path_factory, set_param) -> Callable[[], Path]:
    """A fresh working copy whose params make a run short."""
    from flows.workspace.working_copy import make_workspace

    def make() -> Path:
        workspace = tmp_path_factory.mktemp("project") / "workspace"
        make_workspace(ROOT, workspace)
        for key, value in (small_project.SHORT | {"epochs": 1}).items():
            set_param(workspace, key, value)
        return workspace

    return make


@pytest.fixture(scope="session")
def finished(new_workspace, put_batch, dvc, tmp_path_factory) -> Path:
    """A working copy with one batch, brought up to date, committed and pushed to a DVC remote. Copy it, never change it."""
    from flows.workspace.working_copy import commit

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
