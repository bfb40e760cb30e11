"""Lets a package load the names that its `__init__` only passes on when they are first used.

Some `__init__` import hundreds of modules so that users find their names in one place. A program that needs a few of
these waits for all of them.
"""

import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import resolve_name
from types import CodeType, ModuleType
from typing import Any

from tasks.machine.late_modules import Finder


@contextmanager
def late_exports(*packages: str) -> Iterator[None]:
    """Let these packages, where the block imports them, load `from .module import name` when `name` is first used.

    A name that another statement of the `__init__` uses is loaded at once.
    """
    finder = Finder(dict.fromkeys(packages, _Loader))
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the `__init__` without the imports that come late, which `__getattr__` knows."""
        tree = ast.parse(self.get_data(self.path), self.path)
        imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and _is_own(node, fullname)]
        others = [node for node in tree.body if node not in imports]
        used = {node.id for other in others for node in ast.walk(other) if isinstance(node, ast.Name)}
        self.late: dict[str, tuple[str, str]] = {}
        for node in imports:
            names = {alias.asname or alias.name: alias.name for alias in node.names}
            if used.isdisjoint(names):
                module = resolve_name("." * node.level + (node.module or ""), fullname)
                self.late |= {name: (module, theirs) for name, theirs in names.items()}
            else:
                others.append(node)
        tree.body = [node for node in tree.body if node in others]
        code: CodeType = compile(tree, self.path, "exec", dont_inherit=True)
        return code

    def exec_module(self, module: ModuleType) -> None:
        def late(name: str) -> Any:
            if name not in self.late:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            place, theirs = self.late[name]
            source = None if place == module.__name__ else import_module(place)
            value = getattr(source, theirs) if hasattr(source, theirs) else import_module(f"{place}.{theirs}")
            setattr(module, name, value)
            return value

        module.__getattr__ = late  # type: ignore[method-assign]
        super().exec_module(module)


def _is_own(node: ast.ImportFrom, package: str) -> bool:
    """Return whether the import takes names one by one from the package, or one that it is a part of."""
    top = package.partition(".")[0]
    is_inside = bool(node.level) or (node.module or "").partition(".")[0] == top
    return is_inside and all(alias.name != "*" for alias in node.names)
