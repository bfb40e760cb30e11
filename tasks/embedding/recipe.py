"""The recipe of a frozen network's results: a change of any part of it is another recipe in the store."""

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

from tasks.embedding.embedder import Embeds
from tasks.machine import sources


def recipe(embedder: Embeds, *modules: str, handed_in: tuple[Callable[..., Any], ...], backbone: str) -> dict[str, Any]:
    """Return everything that the kept values depend on besides the sample.

    Args:
        modules: where the values are computed, such as `tasks.embedding.engine`; their imports count with them.
        handed_in: the plain functions and classes that these modules are given, such as the modality's decoder.
        backbone: the fingerprint of its weights and transform.
    """
    for function in handed_in:  # the values that a partial or a closure holds would be in no recipe
        assert not isinstance(function, partial)
        assert "<" not in function.__qualname__, function
    return embedder.plan.recipe() | {
        "architecture": embedder.architecture,
        "backbone": backbone,
        "code": sources.digest(*modules, type(embedder).__module__, *(function.__module__ for function in handed_in)),
        "versions": {name: version(name) for name in embedder.packages},
    }
