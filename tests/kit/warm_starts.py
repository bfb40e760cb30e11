"""Start the programs of the tests' projects in forks of processes that have imported everything.

In a small project the imports of a stage, of DVC, of a door and of Prefect take far longer than their work. While
the tests run, hook/sitecustomize.py hands `python -m tasks.VERB` over to one process, whoever starts it, DVC to
another, doors and Prefect to a third. A program is not handed over where its project has other code than this checkout,
or another user starts it, or its environment lacks the address. The tests of crashes take the addresses away, because
the process that was started only waits then: the fork that works is a child of another process.

The workers of pytest-xdist are such forks, too, of a process that has collected the tests: of each module of the tests
one process rewrites the assertions, and imports what it needs.
"""

import atexit
import copy
import gc
import importlib
import io
import marshal
import os
import pkgutil
import resource
import runpy
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

from tasks.machine.sources import digest
from tests.kit.programs import status_of
from tests.kit.watching import die_with_the_tests

ROOT = Path(__file__).parents[2]
HOOK = Path(__file__).parent / "hook"
STAGES, DVC, DOORS = KINDS = "GRAFTLINE_WARM_STAGES", "GRAFTLINE_WARM_DVC", "GRAFTLINE_WARM_DOORS"
WORKERS = "GRAFTLINE_WARM_WORKERS"
SECONDS_TO_END = 30  # of workers whose pytest was killed: execnet interrupts their tests after 5
CODE = {  # of the project that these programs run
    STAGES: ("tasks",), DVC: ("flows/workspace", "tasks/machine"), DOORS: ("flows", "tasks"), WORKERS: (),
}  # fmt: skip
IMPORTED = {
    STAGES: (
        *(f"tasks.{file.stem}" for file in sorted((ROOT / "tasks").glob("*.py")) if not file.stem.startswith("__")),
        "great_expectations.expectations", "sklearn.decomposition", "torch._dynamo", "torch._inductor", "tqdm",
    ),
    DVC: (
        "flows.workspace.lean",
        "configobj", "dulwich.porcelain", "dvc.cachemgr", "dvc.cli.parser", "dvc.data_cloud", "dvc.repo.artifacts",
        "dvc.repo.brancher", "dvc.repo.datasets", "dvc.repo.experiments", "dvc.repo.graph", "dvc.repo.metrics.show",
        "dvc.repo.open_repo", "dvc.repo.params.show", "dvc.repo.plots", "dvc.repo.stage", "dvc.repo.worktree",
        "dvc.rwlock", "dvc.scm", "dvc.utils.strictyaml", "dvc_data.hashfile.db.local", "dvc_data.index.checkout",
        "dvc_data.index.push", "dvc_render", "fsspec.implementations.memory", "networkx", "platformdirs", "psutil",
        "pygit2", "pyparsing", "ruamel.yaml", "scmrepo.fs", "scmrepo.git", "zc.lockfile",
    ),
    DOORS: (
        *(module.name for module in pkgutil.walk_packages([str(ROOT / "flows")], "flows.")),
        "anyio._backends._asyncio", "prefect.cli.deploy", "prefect.engine", "prefect.runner",
        "prefect.server.api.server", "prefect.utilities.visualization", "prefect.workers.process", "uvicorn.main",
    ),
    WORKERS: (  # which import the tests, too
        "great_expectations.expectations", "moto.server", "onnxscript.function_libs.torch_lib.ops",
        "playwright.sync_api", "prefect.server.api.server", "tasks.prediction.part", "torch._inductor.compile_fx",
        "torch.distributed.checkpoint", "transformers.models.auto.modeling_auto",
    ),
}  # fmt: skip


def warm_starts(*kinds: str, files: Sequence[str] = ()) -> dict[str, str]:
    """Start the processes, which end with this one, and return their addresses by kind.

    Args:
        files: of the tests that the workers are to have imported.
    """
    sockets = tempfile.mkdtemp()  # the path of a socket has at most 107 bytes
    places = {kind: f"{sockets}/{kind}" for kind in kinds}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.kit.warm_starts", kind, socket, str(os.getpid()), *files],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True,
        )
        for kind, socket in places.items()
    ]  # fmt: skip
    for process in processes:
        with process.stdout:
            assert process.stdout.readline() == b"ready\n"
        process.returncode = 0  # nobody waits for it
    return places


def hooked() -> dict[str, str]:
    """Return the setting with which Python hands programs over to the processes whose addresses it has."""
    return {"PYTHONPATH": os.pathsep.join([str(HOOK), *filter(None, [os.environ.get("PYTHONPATH")])])}


def serve(kind: str, place: str, tests: int, *files: str) -> NoReturn:
    """Import everything, then fork a program for each request until the process of the tests ends."""
    end = os.pidfd_open(tests)
    if kind == WORKERS:
        with redirect_stdout(io.StringIO()):  # each worker says what is wrong
            pytest.main(["--collect-only", "-n0", "-p", "no:cacheprovider", *files])
    for name in IMPORTED[kind]:
        importlib.import_module(name)
    if kind in (STAGES, WORKERS):
        digest(*IMPORTED[STAGES])  # it keeps the code of each file: no fork parses one
    gc.freeze()  # no fork looks through the objects of all these modules for garbage
    gc.set_threshold(10_000)  # nor often through its own; programs that stay say by themselves how often
    code = _code_of(ROOT, kind)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(place)
    listening.listen(16)
    os.write(1, b"ready\n")
    waiting = selectors.DefaultSelector()
    waiting.register(end, selectors.EVENT_READ)
    waiting.register(listening, selectors.EVENT_READ)
    at_work: set[int] = set()
    is_over = False
    while at_work or not is_over:
        for key, _ in waiting.select():
            if key.fileobj == end:
                is_over = True
                waiting.unregister(end)
                signal.alarm(SECONDS_TO_END)
                for program in at_work if kind != WORKERS else ():  # a worker ends by itself, with what it started
                    _kill(program)
            elif key.fileobj is listening:
                connection, _ = listening.accept()
                if (pid := _fork(connection, kind, code)) is not None:
                    ending = os.pidfd_open(pid)
                    waiting.register(ending, selectors.EVENT_READ, (connection, pid))
                    waiting.register(connection, selectors.EVENT_READ, pid)
                    at_work.add(pid)
            elif isinstance(key.data, int):  # whoever asked is gone
                if key.data in at_work:
                    waiting.unregister(key.fileobj)
                    _kill(key.data)
            else:
                connection, pid = key.data
                at_work.remove(pid)
                waiting.unregister(key.fileobj)
                os.close(key.fd)
                _kill(pid)  # what it leaves in its process group
                _answer(connection, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                if connection in waiting.get_map():
                    waiting.unregister(connection)
                connection.close()
    shutil.rmtree(Path(place).parent, ignore_errors=True)
    os._exit(0)  # some modules would report that they leak


def _kill(pid: int) -> None:
    """Kill the process and, where it has a process group of its own, all of that."""
    for kill in (os.kill, os.killpg):
        with suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def _answer(connection: socket.socket, number: int | str) -> None:
    with suppress(OSError):  # whoever asked may be gone
        connection.sendall(f"{number}\n".encode())


def _fork(connection: socket.socket, kind: str, code: dict[str, bytes]) -> int | None:
    """Start the program that the other side asks for, and return its process; None where it is declined."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as file:
        size = int.from_bytes(file.read(8), "big")
        content = file.read(size)
    peer = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    if not content or len(content) < size or peer[1] != os.getuid():  # whoever asked is gone, or is another user
        return _declined(connection, streams)
    request = marshal.loads(content)  # noqa: S302  json would take longer to import
    if _code_of(Path(request["folder"]), kind) not in (code, {}):  # a folder without any code runs none
        return _declined(connection, streams)
    pid = os.fork()
    if pid == 0:
        try:
            _become(request, streams, kind)
        finally:
            os._exit(70)  # no fork comes back to the loop
    for stream in streams:
        os.close(stream)
    _answer(connection, pid)
    return pid


def _declined(connection: socket.socket, streams: list[int]) -> None:
    for stream in streams:
        os.close(stream)
    _answer(connection, "")
    connection.close()


def _become(request: dict[str, Any], streams: list[int], kind: str) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = os.fdopen(0, closefd=False)  # as Python's own: who replaces one closes no stream
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1, closefd=False)
    os.chdir(request["folder"])
    if kind == WORKERS:
        _become_a_worker(request["arguments"][-1])
    os.environ.clear()
    os.environ.update(request["environment"])
    for name, limit in request["limits"].items():
        resource.setrlimit(getattr(resource, name), limit)
    name, *arguments = request["arguments"]
    sys.argv = [name, *arguments]
    sys.path[0] = request["folder"]
    if kind == STAGES:
        _use_threads()
    else:
        os.setsid()  # all that it starts ends with it
        die_with_the_tests()
    if kind == DOORS:
        _read_settings()
    if not hasattr(sys.modules.get(name), "__path__"):  # a package stays: its __main__ runs
        sys.modules.pop(name, None)
    # at the end of a door, Prefect sends the rest of its log
    _end(partial(runpy.run_module, name, run_name="__main__", alter_sys=True), has_hooks=kind == DOORS)


def _become_a_worker(code: str) -> NoReturn:
    """Run what execnet starts Python with. The environment stays: in that of the request are the addresses for it."""
    os.setsid()
    die_with_the_tests()
    sys.argv = ["-c"]
    main = sys.modules["__main__"] = ModuleType("__main__")
    _end(partial(exec, code, vars(main)), has_hooks=True)


def _end(work: Callable[[], Any], *, has_hooks: bool) -> NoReturn:
    """Do the work, and end this process with its status; call what is registered for the end of a Python, too."""
    status = status_of(work)
    if has_hooks:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _use_threads() -> None:
    if "OMP_NUM_THREADS" in os.environ:
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def _read_settings() -> None:
    """Let Prefect read its settings anew: those of the folder and of the environment of whoever asks.

    How it logs is known where the settings of that are those of this process: Prefect would take 0.06 s to find out,
    twice.
    """
    from prefect.context import get_settings_context, refresh_global_settings_context
    from prefect.logging import configuration

    def of_logging() -> tuple[Any, ...]:
        settings = get_settings_context().settings
        path, levels = settings.logging.config_path, (settings.server.logging_level, settings.internal.logging_level)
        return settings.logging.model_dump(exclude={"config_path"}), levels, path if path.exists() else None

    known, before = copy.deepcopy(configuration.PROCESS_LOGGING_CONFIG), of_logging()
    del known["incremental"]  # which the first setup adds
    refresh_global_settings_context()
    configuration.PROCESS_LOGGING_CONFIG.clear()
    if of_logging() == before and not any(name.startswith("PREFECT_LOGGING_") for name in os.environ):
        configuration.load_logging_config = lambda path: copy.deepcopy(known)
    configuration.setup_logging()


def _code_of(folder: Path, kind: str) -> dict[str, bytes]:
    files = [file for package in CODE[kind] for file in (folder / package).rglob("*")]
    files = [file for file in files if file.suffix in (".py", ".html", ".css", ".js")]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
