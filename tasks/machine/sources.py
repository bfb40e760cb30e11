"""The code that a result depends on, derived from imports.

The recipes of the stores, the checkpoints and the code deps of the stages come from here. No list of modules is written
by hand.
"""

import ast
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import cache_from_source
from os.path import isfile
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
    "tasks/machine/training_group.py",
    "tasks/machine/yaml_text.py",
)
DECLARATIONS = "options.py"  # in any folder: dataclasses of params.yaml's sections, without defaults


def digest(*modules: str, modalities: Sequence[str] = MODALITIES, root: Path = ROOT) -> str:
    """Return the SHA-256 (hex) of the code of modules, such as `tasks.embedding.engine`, and of all that they import.

    Comments, docstrings and layout do not count: they change no result. A folder of other files that lies beside a
    module, such as templates, belongs to it. Where a verb takes parts of the room of its modality, those of
    `modalities` count.

    Raises:
        ValueError: a module is no Python.
    """
    content = hashlib.sha256()
    code = _reached(modules, modalities, root)
    for path, code_of_file in sorted(code.items()):
        content.update(f"{path}\0{code_of_file}\0".encode())
    folders = {Path(path).parent for path in code}
    for path in sorted({path for folder in folders for path in _data_files(folder, root)}):
        content.update(f"{path}\0{hashlib.sha256((root / path).read_bytes()).hexdigest()}\0".encode())
    return content.hexdigest()


def reached(*modules: str, root: Path = ROOT) -> list[str]:
    """Return the files below `tasks/` that run when the modules do, as sorted paths; PLUMBING is left out."""
    return sorted(_reached(modules, MODALITIES, root))


def parts_of_rooms(module: str) -> list[str]:
    """Return the modules that a verb may take from the room of its modality, those of all modalities."""
    file = _file(module, ROOT)
    names = _read(ROOT / file).imports if file else ()
    parts = [name.removeprefix(ROOM) for name in names if name.startswith(ROOM)]
    return [f"{PACKAGE}.{modality}.{part}" for modality in MODALITIES for part in parts]


def imported_by(folder: Path) -> list[str]:
    """Return the modules that the Python files below a folder import, sorted."""
    return sorted({module for file in folder.rglob("*.py") if file.is_file() for module in _read(file).imports})


def is_same_code(one: bytes, other: bytes, *, path: Path) -> bool:
    """Return whether two contents of a module give the same results; `path` is below `tasks/`."""
    try:
        return _is_plumbing(str(Path(PACKAGE, path))) or _parsed(one).code == _parsed(other).code
    except (SyntaxError, ValueError):
        return False


@dataclass(frozen=True)
class Source:
    """The imports of a file, at its top or inside functions, with the packages around it, and the digest of its code.

    `code` is the SHA-256 (hex) of its code without comments, docstrings and layout.
    """

    imports: tuple[str, ...]
    code: str


def _reached(modules: Iterable[str], modalities: Sequence[str], root: Path) -> dict[str, str]:
    """Return the result of `reached`, with the code of each file.

    Where a verb takes parts of its room, only the rooms of these modalities count.
    """
    waiting = list(modules)
    seen: set[str] = set()
    code: dict[str, str] = {}
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        if module.startswith(ROOM):
            waiting += [f"{PACKAGE}.{name}.{module.removeprefix(ROOM)}" for name in modalities]
            continue
        path = _file(module, root)
        if path is None or _is_plumbing(path) or not (root / path).stat().st_size:
            continue
        source = _read(root / path)
        code[path] = source.code
        waiting += source.imports
    return code


def _file(module: str, root: Path) -> str | None:
    """Return the file of a module below `tasks`; None for any other module."""
    if module.split(".")[0] != PACKAGE:
        return None
    path = module.replace(".", "/")
    files = (f"{path}.py", f"{path}/__init__.py")
    return next((file for file in files if isfile(f"{root}/{file}")), None)  # noqa: PTH113  pathlib takes long


def _read(path: Path) -> Source:
    try:
        return _known(path.read_bytes(), path)
    except SyntaxError as error:
        raise ValueError(f"{path}, line {error.lineno}: {error.msg}: mend it, or restore it with git") from None


@cache
def _known(content: bytes, path: Path) -> Source:
    """Return the imports and the code of a file of this content. They are cached beside the bytecode of the file."""
    place = Path(cache_from_source(path)).with_suffix(".json")
    key = hashlib.sha256(_reader() + content).hexdigest()
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(place.read_bytes())
        if kept["key"] == key:
            return _by_content.setdefault(content, Source(tuple(kept["imports"]), kept["code"]))
    source = _parsed(content)
    if not sys.dont_write_bytecode:
        with suppress(OSError):
            place.parent.mkdir(exist_ok=True)
            beside = place.with_suffix(f".{os.getpid()}")
            beside.write_text(json.dumps({"key": key, **asdict(source)}), "utf-8")
            beside.replace(place)
    return source


@cache
def _reader() -> bytes:
    """Return the digest of everything that a parsed file depends on besides itself: this module and Python."""
    return hashlib.sha256(Path(__file__).read_bytes() + sys.version.encode()).digest()


_by_content: dict[bytes, Source] = {}  # of the files that this process, or the one it was forked from, knows


def _parsed(content: bytes) -> Source:
    """Return the imports and the code of a file of this content, which is parsed once."""
    if content not in _by_content:
        _by_content[content] = _parsed_anew(content)
    return _by_content[content]


def _parsed_anew(content: bytes) -> Source:
    tree = ast.parse(content)
    nodes = list(ast.walk(tree))
    imports = tuple(dict.fromkeys(_found_imports(nodes)))
    for node in nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return Source(imports, hashlib.sha256(ast.dump(tree).encode()).hexdigest())


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


def _is_plumbing(path: str) -> bool:
    is_declared = path.endswith(f"/{DECLARATIONS}")
    return is_declared or any(path == part or path.startswith(f"{part}/") for part in PLUMBING)


def _data_files(folder: Path, root: Path) -> list[str]:
    """Return the files in the folders beside a module that hold no code."""
    if folder == Path(PACKAGE):
        return []
    beside = [path for path in (root / folder).iterdir() if path.is_dir() and path.name != "__pycache__"]
    return [
        str(file.relative_to(root))
        for path in beside
        if not any(path.rglob("*.py"))
        for file in path.rglob("*")
        if file.is_file()
    ]
