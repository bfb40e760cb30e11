"""What the tests of models ask for."""

from collections.abc import Callable

import pytest
import torch

from tasks.models.classifier import Classifier
from tasks.models.weights import load_backbone


@pytest.fixture
def classifier() -> Callable[..., Classifier]:
    """A small untrained classifier for pictures of 32 px, with one head or with those of `classes`."""

    def build(classes: dict[str, list[str]] | None = None, *, seed: int = 0) -> Classifier:
        torch.manual_seed(seed)
        backbone = load_backbone("shufflenet_v2_x0_5", weights="random", image_size=32)
        return Classifier(backbone, classes or {"label": ["cat", "dog", "eel"]}).eval()

    return build
