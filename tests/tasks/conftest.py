"""What the tests of the tasks ask for: verbs run from a shell, pictures, batches, and a backbone that costs nothing."""

import functools
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tasks.models.classifier import Classifier
from tasks.models.weights import load_backbone
from tests.kit.verbs import Finished, run_verb

ROOT = Path(__file__).parents[2]


Shell = Callable[..., Finished]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """The machine is shared, and the models here are too small to gain from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder to run verbs from: the shipped params.yaml and nothing else."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    shutil.copy(ROOT / "params.yaml", folder)
    return folder


@pytest.fixture(scope="session")
def shell_in() -> Shell:
    """Runs `python -m tasks.<verb> <arguments>` in a folder: see `run_verb`."""

    def run(folder: Path, verb: str, *arguments: object, **settings: Any) -> Finished:
        return run_verb(verb, list(map(str, arguments)), folder=folder, **settings)

    return run


@pytest.fixture
def shell(shell_in: Shell, workspace: Path) -> Shell:
    """`shell_in` the workspace."""
    return functools.partial(shell_in, workspace)


@pytest.fixture(scope="session")
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
    """A function that returns the rows of scan for a batch, one for each of `labels`.

    The default ids differ by batch and position.
    """

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


@pytest.fixture
def land(tmp_path: Path) -> Callable[..., None]:
    """A function that writes what scan gives for a batch, and lists the batch."""
    from tests.kit.validating import landing

    return landing(tmp_path)


@pytest.fixture
def validate(tmp_path: Path) -> Callable[..., Path]:
    """A function that runs validate, and returns the folder it wrote."""
    from tests.kit.validating import validating

    return validating(tmp_path)


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
