"""The recipe of what a frozen network makes of samples: a change of any part of it is another recipe in the store."""

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

from tasks.embedding.embedder import Embedder, Embeds
from tasks.machine import sources

PACKAGES = {
    "images": ("numpy", "pillow", "torch", "torchvision"),
    "text": ("numpy", "tokenizers", "torch", "transformers"),
}


def recipe(embedder: Embeds, *modules: str, handed_in: tuple[Callable[..., Any], ...], backbone: str) -> dict[str, Any]:
    """Return all that the kept values depend on besides the sample.

    Args:
        modules: where the values are computed, such as `tasks.embedding.engine`; what they import counts with them.
        handed_in: the plain functions and classes that these modules are given, such as the modality's decoder.
        backbone: the fingerprint of its weights and transform.
    """
    for function in handed_in:  # what a partial or a closure holds besides would be in no recipe
        assert not isinstance(function, partial)
        assert "<" not in function.__qualname__, function
    library = (embedder.library,) if isinstance(embedder, Embedder) else ()
    return embedder.plan.recipe() | {
        "architecture": embedder.architecture,
        "backbone": backbone,
        "code": sources.digest(*modules, *(function.__module__ for function in handed_in)),
        "versions": {name: version(name) for name in sorted({*PACKAGES[embedder.transform.modality], *library})},
    }
