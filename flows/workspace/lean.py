"""Runs DVC so that a stage costs the same, however many batches there are: `python -m flows.workspace.lean dvc …`.

By itself DVC reads and writes all of dvc.lock for each stage that ran, reads params.yaml for each of its sections, and
git's index for each output, and hashes the dependencies of a stage that runs four times for its run cache alone. Here
it writes the entry of that stage, reads a file of params, and the index, when it has changed, and takes for the run
cache the hashes that it has. The bytes are the same.
"""

import re
import sys
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tasks.machine.files import write_whole

HEAD = "schema: '2.0'\nstages:\n"
State = tuple[str, int, int, int]
USUAL = re.compile(rf"{re.escape(HEAD)}(?:  \w.*:\n(?:    .+\n)+)*")  # nothing but stages, without empty lines


def main(*arguments: str) -> int:
    """Run `dvc ARGUMENTS` and return its exit status."""
    from dvc.cli import main

    write_one_stage()
    read_params_once()
    hash_dependencies_once()
    read_index_once()
    return int(main(list(arguments)))


def write_one_stage() -> None:
    """Let DVC write the entry of a stage, where dvc.lock looks as DVC writes it."""
    from dvc.dvcfile import Lockfile
    from dvc.stage import serialize
    from dvc.utils.serialize import dumps_yaml

    write_all = Lockfile.dump_stages

    def dump_stages(self: Lockfile, stages: list[Any], **options: Any) -> None:
        file = Path(self.path)
        before = after = file.read_text("utf-8") if file.exists() else HEAD
        for stage in stages:
            entry = dumps_yaml({"stages": serialize.to_lockfile(stage, **options)}).removeprefix("stages:\n")
            after = replaced(after, name=stage.name, entry=entry)
        if not after:
            write_all(self, stages, **options)
        elif after != before:
            write_whole(file, after.encode())
            self.repo.scm_context.track_file(self.relpath)

    Lockfile.dump_stages = dump_stages


def replaced(text: str, *, name: str, entry: str) -> str:
    """Return the text of dvc.lock with the entry of a stage, in its place or last; "" where the text looks unusual."""
    first = f"  {name}:\n"
    if not USUAL.fullmatch(text) or not entry.startswith(first):
        return ""
    before, found, rest = text.partition(f"\n{first}")
    if not found:
        return text + entry
    after = re.sub(r"\A(?:    .+\n)*", "", rest)
    return f"{before}\n{entry}{after}"


def read_params_once() -> None:
    """Let DVC read a file of params when it has changed, and look up the params of a stage once."""
    from dvc.dependency import param
    from dvc.fs import LocalFileSystem

    parse, read = param.load_path, param.read_param_file
    parsed: dict[State, Any] = {}
    known: dict[tuple[Any, ...], Any] = {}

    def load_path(path: str, fs: Any, **options: Any) -> Any:
        if options or not isinstance(fs, LocalFileSystem):
            return parse(path, fs, **options)
        if (key := state_of(path)) not in parsed:
            parsed[key] = parse(path, fs)
        return parsed[key]

    def read_param_file(
        fs: Any, path: str, key_paths: list[str] | None = None, flatten: bool = False, **options: Any
    ) -> Any:
        if options or not isinstance(fs, LocalFileSystem):
            return read(fs, path, key_paths, flatten, **options)
        if (key := (state_of(path), tuple(key_paths or ()), flatten)) not in known:
            known[key] = read(fs, path, key_paths, flatten)
        return deepcopy(known[key])  # the caller may change it

    param.load_path, param.read_param_file = load_path, read_param_file


def hash_dependencies_once() -> None:
    """Let DVC's run cache ask for the hash of a dependency only where DVC has none yet."""
    from dvc.dependency.param import ParamsDependency
    from dvc.stage import cache

    ask = cache._can_hash

    def can_hash(stage: Any) -> Any:
        def hash_of(dep: Any) -> Any:
            has_hash = dep.hash_info and dep.exists and not isinstance(dep, ParamsDependency)
            return dep.hash_info if has_hash else dep.get_hash()

        deps = [
            SimpleNamespace(protocol=dep.protocol, def_path=dep.def_path, get_hash=partial(hash_of, dep))
            for dep in stage.deps
        ]
        told = ("is_callback", "always_changed", "cmd", "outs")
        return ask(SimpleNamespace(deps=deps, **{name: getattr(stage, name) for name in told}))

    cache._can_hash = can_hash


def read_index_once() -> None:
    """Let DVC read git's index only when it has changed, and not for each output."""
    from dvc.scm import Git

    ask = Git.is_tracked
    known: dict[State, list[bytes]] = {}

    def is_tracked(self: Git, path: str) -> Any:
        git = self.dulwich
        index = git.repo.index_path()
        if not Path(index).exists():  # in a project that has just become a repository
            return ask(self, path)
        if (key := state_of(index)) not in known:
            known[key] = list(git.repo.open_index())
        read = SimpleNamespace(root_dir=git.root_dir, repo=SimpleNamespace(open_index=lambda: known[key]))
        return type(git).is_tracked(read, path)

    Git.is_tracked = is_tracked


def state_of(path: str) -> State:
    """Return a state of the file that differs after each change."""
    status = Path(path).stat()
    return str(path), status.st_ino, status.st_size, status.st_mtime_ns


if __name__ == "__main__":
    sys.exit(main(*sys.argv[2:]))
