"""Lets libraries load without modules that take long and that nothing here uses.

torch and torchvision work without torch._dynamo, which takes a second to load, until something compiles. Two modules
of torchvision load it. One asks it whether a device can compile, but only when it is called. The other excludes a
function from torch.compile, and no verb compiles a transform. While these two load, stand-ins take the place of the
modules that they import.

torch itself excludes its optimizers and tensors without values from torch.compile: it loads torch._dynamo when one of
these first runs. As long as nothing has loaded it, nothing compiles, and they run as they are.

scipy copies all names of numpy, and so loads numpy.f2py and numpy.testing, which take a tenth of a second. It uses
neither, and its copy does without them.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

ASKING = ("torchvision.ops.roi_align", "torchvision.tv_tensors")
ASKED = "torch._dynamo.utils"
COMPILER = "torch._dynamo"
COPYING = "scipy._lib.array_api_compat.numpy"
NOT_COPIED = ("f2py", "testing")
KEEPING_AWAY = {"torch._compile": "_disable_dynamo", "torch.optim.optimizer": "_use_grad_for_differentiable"}


def load_late() -> None:
    """Let an import of torch, torchvision or scipy in this process load these modules only when they are used."""
    if not any(isinstance(finder, Finder) and finder.loaders is _LOADERS for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder(_LOADERS))


class Finder:
    """Lets a loader of ours load modules, by their names."""

    def __init__(self, loaders: Mapping[str, type[SourceFileLoader]]) -> None:
        self.loaders = loaders

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self.loaders:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = self.loaders[name](spec.loader.name, spec.loader.path)
        return spec


class _LoaderOfTorch(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        if ASKED in sys.modules:
            return
        name = KEEPING_AWAY[module.__name__]
        setattr(module, name, partial(_STAND_INS[name], getattr(module, name)))


def _disable(
    theirs: Callable[..., Any], function: Callable[..., Any] | None = None, recursive: bool = True
) -> Callable[..., Any]:
    """Return the function, which the compiler leaves out."""
    if function is None:
        return partial(_disable, theirs, recursive=recursive)
    return _either(function, theirs(function, recursive))


def _use_grad(theirs: Callable[..., Any], step: Callable[..., Any]) -> Callable[..., Any]:
    """Return the step of an optimizer, which has gradients only where the optimizer is differentiable."""

    def with_grad(optimizer: Any, *arguments: Any, **named: Any) -> Any:
        import torch

        with torch.set_grad_enabled(optimizer.defaults["differentiable"]):
            return step(optimizer, *arguments, **named)

    return _either(with_grad, theirs(step))


def _either(plain: Callable[..., Any], theirs: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs `theirs` once the compiler is loaded, and `plain` before."""

    @wraps(theirs)
    def run(*arguments: Any, **named: Any) -> Any:
        return (theirs if COMPILER in sys.modules else plain)(*arguments, **named)

    return run


_STAND_INS: dict[str, Callable[..., Any]] = {"_disable_dynamo": _disable, "_use_grad_for_differentiable": _use_grad}


class _LoaderOfTorchvision(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        if ASKED in sys.modules:
            return super().exec_module(module)
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


class _LoaderOfScipy(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        import numpy

        absent = [name for name in NOT_COPIED if name not in vars(numpy)]
        for name in absent:
            setattr(numpy, name, None)  # else it is loaded when somebody asks for it
        try:
            super().exec_module(module)
        finally:
            for name in absent:
                if vars(numpy)[name] is None:
                    delattr(numpy, name)


_LOADERS: dict[str, type[SourceFileLoader]] = {
    **dict.fromkeys(ASKING, _LoaderOfTorchvision), **dict.fromkeys(KEEPING_AWAY, _LoaderOfTorch),
    COPYING: _LoaderOfScipy,
}  # fmt: skip
