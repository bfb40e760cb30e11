"""Lets torchvision load without torch._dynamo, which takes longer to load than all the rest of torchvision.

Two modules of torchvision load it. One asks it whether a device can compile, and asks only when it is called. The other
keeps torch.compile away from a function, and no verb compiles a transform. While these two load, stand-ins take the
place of what they ask for.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

ASKING = ("torchvision.ops.roi_align", "torchvision.tv_tensors")
ASKED = "torch._dynamo.utils"


def load_dynamo_late() -> None:
    """Let an import of torchvision in this process leave torch._dynamo to those who compile."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in ASKING or ASKED in sys.modules:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        import torch

        stand_in = ModuleType(ASKED)
        stand_in.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
        sys.modules[ASKED], disable = stand_in, torch.compiler.disable
        torch.compiler.disable = _as_it_is  # type: ignore[assignment]
        try:
            super().exec_module(module)
        finally:
            del sys.modules[ASKED]
            torch.compiler.disable = disable


def _is_compile_supported(device_type: str) -> bool:
    from torch._dynamo.utils import is_compile_supported

    return bool(is_compile_supported(device_type))


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    return function
