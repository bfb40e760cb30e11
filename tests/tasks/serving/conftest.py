import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from tasks.models.bundle import save_bundle
from tasks.models.classifier import Classifier
from tasks.models.weights import load_backbone
from tasks.serving import service


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """Look at the place of the bundle more often than once a second."""
    monkeypatch.setattr(service, "LOOK_SECONDS", 0.02)


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory) -> Callable[..., Path]:
    """A function that writes a bundle: one for each seed of its backbone and of its heads."""

    def make(folder: Path | None = None, *, backbone: int = 0, head: int = 0) -> Path:
        folder = folder or tmp_path_factory.mktemp("bundle")
        folder.mkdir(exist_ok=True)
        torch.manual_seed(backbone)
        network = load_backbone("shufflenet_v2_x0_5", weights="random", image_size=32)
        torch.manual_seed(100 + head)
        model = Classifier(network, {"animal": ["cat", "dog", "eel"], "place": ["in", "out"]})
        save_bundle(folder, model, lineage={})
        return folder

    return make


@pytest.fixture(scope="session")
def bundle(make_bundle) -> Path:
    return make_bundle()


@pytest.fixture(scope="session")
def png(request) -> Callable[[int], bytes]:
    """A function that returns the bytes of a picture, another for each seed."""

    def draw(seed: int) -> bytes:
        picture: Image.Image = request.getfixturevalue("picture")(seed, width=40, height=48)
        file = io.BytesIO()
        picture.save(file, "PNG")
        return file.getvalue()

    return draw
