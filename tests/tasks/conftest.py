"""What the tests of the tasks ask for: verbs run from a shell, pictures, batches, and a backbone that costs nothing."""

import functools
import hashlib
import importlib
import os
import resource
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tasks.models.classifier import Classifier
from tasks.models.weights import load_backbone
from tests.kit.forks import run_in_fork, run_verb
from tests.kit.programs import run_module

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a verb ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The one line that the user is told; asserts that there is one, the last, and no traceback."""
        lines = self.stderr.splitlines()
        assert self.status == 1, self.stderr
        assert [line for line in lines if line.startswith("error: ")] == lines[-1:], self.stderr
        assert "Traceback" not in self.stderr, self.stderr
        return lines[-1].removeprefix("error: ")


Shell = Callable[..., Finished]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """The machine is shared, and the models here are too small to gain from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def great_expectations() -> None:
    """Imports it once, outside of "warnings are errors": what it says while it is imported is not about this code."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("great_expectations")
        importlib.import_module("great_expectations.expectations")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder to run verbs from: the shipped params.yaml and nothing else."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    shutil.copy(ROOT / "params.yaml", folder)
    return folder


@pytest.fixture(scope="session")
def shell_in() -> Shell:
    """Runs `python -m tasks.<verb> <arguments>` in a folder, as a fork of this process where it need not be `fresh`.
    `max_file_bytes` makes the disk look full after so many bytes of a file; `environment` is added to the process's own."""

    def run(
        folder: Path,
        verb: str,
        *arguments: object,
        max_file_bytes: int | None = None,
        environment: dict[str, str] | None = None,
        fresh: bool = torch.cuda.is_available(),  # a fork cannot use a GPU
    ) -> Finished:
        words, added = list(map(str, arguments)), verb_environment() | (environment or {})

        def limit() -> None:
            if max_file_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))

        def work() -> None:
            limit()
            run_verb(verb, words, folder=folder, environment=added)

        if not fresh:
            importlib.import_module(f"tasks.{verb}")  # here, so that the fork need not
            status, stdout, stderr = run_in_fork(work)
            return Finished(status=status, stdout=stdout, stderr=stderr)
        settings = {"cwd": folder, "env": os.environ | added, "preexec_fn": limit}
        done = run_module(f"tasks.{verb}", *words, status=None, **settings)
        return Finished(status=done.returncode, stdout=done.stdout, stderr=done.stderr)

    return run


@pytest.fixture
def shell(shell_in: Shell, workspace: Path) -> Shell:
    """`shell_in` the workspace."""
    return functools.partial(shell_in, workspace)


def verb_environment() -> dict[str, str]:
    return {
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }


@pytest.fixture
def picture() -> Callable[..., Image.Image]:
    """An RGB picture of noise, another for each seed."""

    def draw(seed: int = 0, *, width: int = 16, height: int = 16) -> Image.Image:
        noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return Image.fromarray(noise)

    return draw


@pytest.fixture
def batch(workspace: Path, picture: Callable[..., Image.Image]) -> Path:
    """A batch of two classes with three pictures each, in the workspace's data/raw."""
    folder = workspace / "data" / "raw" / "2024-01"
    for number, path in enumerate(f"{name}/{each}.png" for name in ("cat", "dog") for each in range(3)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / path)
    return folder


@pytest.fixture
def samples() -> Callable[..., pd.DataFrame]:
    """The rows that scan gives for a batch: `labels` one a sample; the ids differ by batch and position unless given."""

    def make(batch: str, labels: list[str], *, ids: list[str] | None = None) -> pd.DataFrame:
        rows: list[dict[str, Any]] = [
            {
                "path": f"{label}/{number:04d}.png",
                "sample_id": ids[number] if ids else made_up_id(f"{batch}/{number}"),
                "label": label,
                "format": "PNG",
                "mode": "RGB",
                "width": 16,
                "height": 16,
                "group": None,
                "domain": None,
                "split": None,
                "batch": batch,
            }
            for number, label in enumerate(labels)
        ]
        return pd.DataFrame(rows).astype({"group": "str", "domain": "str", "split": "str"})

    return make


def made_up_id(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture
def bundle(workspace: Path) -> Path:
    """An untrained classifier of cats and dogs in the workspace's folder candidate."""
    from tasks.models.bundle import save_bundle
    from tasks.models.classifier import Classifier
    from tasks.models.weights import load_backbone

    torch.manual_seed(0)
    folder = workspace / "candidate"
    folder.mkdir()
    backbone = load_backbone("shufflenet_v2_x0_5", weights="random", image_size=32)
    save_bundle(folder, Classifier(backbone, {"label": ["cat", "dog"]}), lineage={})
    return folder


@pytest.fixture
def classifier() -> Callable[..., Classifier]:
    """A small untrained classifier for pictures of 32 px, with one head or with those of `classes`."""

    def build(classes: dict[str, list[str]] | None = None, *, seed: int = 0) -> Classifier:
        torch.manual_seed(seed)
        backbone = load_backbone("shufflenet_v2_x0_5", weights="random", image_size=32)
        return Classifier(backbone, classes or {"label": ["cat", "dog", "eel"]}).eval()

    return build
