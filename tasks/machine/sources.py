"""The code that a result depends on, derived from imports: `python -m tasks.machine.sources dvc.yaml` writes it there.

The recipes of the stores, the checkpoints and the code deps of dvc.yaml come from here. No list of modules is written
by hand.
"""

import argparse
import ast
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "tasks"
MODALITIES = ("images", "text")
ROOM = "tasks.${modality}."  # a part of the room of the modality that params.yaml names
# This code starts a verb, shows progress, finds, reads and writes files, or declares what params.yaml may set. It
# cannot change a value, so a change of it makes nothing stale.
PLUMBING = (
    "tasks/__init__.py",
    "tasks/stage",
    "tasks/machine/bounds.py",
    "tasks/machine/cluster.py",
    "tasks/machine/dvc_files.py",
    "tasks/machine/extras.py",
    "tasks/machine/failures.py",
    "tasks/machine/files.py",
    "tasks/machine/lifeline.py",
    "tasks/machine/names.py",
    "tasks/machine/progress.py",
    "tasks/machine/sources.py",
    "tasks/machine/yaml_text.py",
)
DECLARATIONS = "options.py"  # in any folder: dataclasses of params.yaml's sections, without defaults


def digest(*modules: str) -> str:
    """Return the SHA-256 (hex) of the code of modules, such as `tasks.embedding.engine`, and of all that they import.

    Comments, docstrings and layout do not count: they change no result.
    """
    content = hashlib.sha256()
    for path in reached(*modules):
        content.update(f"{path}\0{_code(ROOT / path, _stamp(ROOT / path))}\0".encode())
    return content.hexdigest()


def reached(*modules: str, root: Path = ROOT) -> list[str]:
    """Return the files below `tasks/` that run when the modules do, as sorted paths; PLUMBING is left out."""
    return sorted(_reached(modules, MODALITIES, root))


def _reached(modules: Iterable[str], modalities: Sequence[str], root: Path) -> set[str]:
    """Return what `reached` does, with the rooms of these modalities alone where a verb takes parts of its room."""
    waiting = list(modules)
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module.startswith(ROOM):
            waiting += [f"{PACKAGE}.{name}.{module.removeprefix(ROOM)}" for name in modalities]
            continue
        path = _file(module, root)
        if path is None or path in seen or _is_plumbing(path):
            continue
        seen.add(path)
        waiting += _imports(root / path, _stamp(root / path))
    return {path for path in seen if (root / path).stat().st_size}


def deps(verb: str, *others: str, root: Path = ROOT) -> list[str]:
    """Return the code deps of a verb such as `tasks.embed`: a folder where all of it is reached, else files.

    Args:
        others: the other deps of the verb's stage, such as `tests/regression`; what Python there imports counts too.

    A folder of other files that lies beside a reached module, such as templates, belongs to it. A part of a room that
    the modality of params.yaml chooses is `tasks/${modality}/decode`.
    """
    beside = [
        file for other in others for file in [root / other, *(root / other).rglob("*.py")] if file.suffix == ".py"
    ]
    modules = [verb, *(module for file in beside for module in _imports(file, _stamp(file)))]
    files = _reached(modules, (), root)
    parts: set[str] = set()
    for modality in MODALITIES:
        for file in _reached(modules, (modality,), root) - files:
            inside = Path(file).parts[2:]
            if file.startswith(f"{PACKAGE}/{modality}/"):
                parts.add("/".join((PACKAGE, "${modality}", inside[0])))
            else:
                files.add(file)
    folders = {folder for file in files for folder in Path(file).parents if folder.parts[:1] == (PACKAGE,)}
    whole = [str(folder) for folder in sorted(folders) if folder != Path(PACKAGE) and _modules(folder, root) <= files]
    outermost = [folder for folder in whole if not any(folder.startswith(f"{other}/") for other in whole)]
    data = {str(folder) for file in files for folder in _data_folders(Path(file).parent, root)}
    single = [file for file in {*files, *data} if not any(file.startswith(f"{folder}/") for folder in outermost)]
    verb_file = str(_file(verb, root))
    return [verb_file, *sorted({*outermost, *single, *parts} - {verb_file})]


def renewed(text: str, *, root: Path = ROOT) -> str:
    """Return the text of dvc.yaml with the code deps that the imports of each stage's verb give."""
    lines: list[str] = []
    others: list[str]
    verb, is_in_deps, others = "", False, []
    for line in text.splitlines():
        if re.match(r"  \w+:", line):
            verb, others = "", []
        if found := re.search(r"python -m (tasks\.\w+)", line):
            verb = found[1]
        is_entry = line.startswith("      - ")
        if is_in_deps and not is_entry:  # the end of the list
            lines += [f"      - {path}" for path in deps(verb, *others, root=root)]
        is_in_deps = line == "    deps:" or (is_in_deps and is_entry)
        if is_in_deps and is_entry and line.startswith(f"      - {PACKAGE}/"):
            continue
        if is_in_deps and is_entry:
            others.append(line.removeprefix("      - "))
        lines.append(line)
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tasks.machine.sources", description=renewed.__doc__)
    parser.add_argument("path", type=Path, help="dvc.yaml")
    path: Path = parser.parse_args(arguments).path
    if not path.is_file():
        parser.error(f"there is no file {path}: name dvc.yaml, from the root of the repository")
    path.write_text(renewed(path.read_text("utf-8")), "utf-8")


def _file(module: str, root: Path) -> str | None:
    """Return the file of a module below `tasks`; None for any other module."""
    if module.split(".")[0] != PACKAGE:
        return None
    path = Path(*module.split("."))
    return next(
        (str(file) for file in (path.with_suffix(".py"), path / "__init__.py") if (root / file).is_file()), None
    )


@cache
def _imports(path: Path, stamp: tuple[int, int]) -> tuple[str, ...]:
    """Return the modules that a file imports, at its top or inside functions, and the packages around them."""
    return tuple(dict.fromkeys(_found_imports(ast.walk(ast.parse(path.read_bytes())))))


def _found_imports(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "imports are absolute here"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "room":
            part = node.args[1]
            assert isinstance(part, ast.Constant), "the part of a room is named where it is taken"
            yield f"{ROOM}{part.value!s}"
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


@cache
def _code(path: Path, stamp: tuple[int, int]) -> str:
    """Return a module's code without comments, docstrings and layout."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return ast.dump(tree)


def _stamp(path: Path) -> tuple[int, int]:
    """Return modification time and size, so that a changed file is read again."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _is_plumbing(path: str) -> bool:
    is_declared = Path(path).name == DECLARATIONS
    return is_declared or any(path == part or path.startswith(f"{part}/") for part in PLUMBING)


def _modules(folder: Path, root: Path) -> set[str]:
    """Return the modules below a folder that hold any code but declarations; a package's `__init__.py` may be empty."""
    files = [file for file in (root / folder).rglob("*.py") if file.name != DECLARATIONS]
    return {str(file.relative_to(root)) for file in files if file.stat().st_size}


def _data_folders(folder: Path, root: Path) -> list[Path]:
    """Return the folders beside a module that hold no code."""
    if folder == Path(PACKAGE):
        return []
    beside = [path for path in (root / folder).iterdir() if path.is_dir() and path.name != "__pycache__"]
    return [path.relative_to(root) for path in beside if not any(path.rglob("*.py"))]


if __name__ == "__main__":
    main()
