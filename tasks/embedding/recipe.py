"""What the numbers that a frozen network gives of a sample depend on: a change of any of it is another recipe in the store."""

import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from tasks.embedding.embedder import Embedder


def recipe(embedder: Embedder, code: Iterable[ModuleType], *, backbone: str) -> dict[str, Any]:
    """`code` is what runs between a file and what is kept of it; `backbone` the fingerprint of its weights and transform."""
    sources = b"".join(Path(module.__file__ or "").read_bytes() for module in code)
    return embedder.plan.recipe() | {
        "architecture": embedder.architecture,
        "backbone": backbone,
        "code": hashlib.sha256(sources).hexdigest(),
        "versions": {each: version(each) for each in ("numpy", "pillow", "torch", "torchvision")},
    }
