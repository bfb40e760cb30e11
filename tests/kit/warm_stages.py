"""Run the stages of the tests' projects in forks of one process that has imported everything.

In a small project a stage's imports take far longer than its work. While `warm_stages` is open, `python -m tasks.VERB`
is handed over by hook/sitecustomize.py, whoever starts it, DVC included. A stage is not handed over where its project
has other code than this checkout, or another user starts it. PYTHONPATH without the hook starts every stage afresh, as
the tests of crashes need it.
"""

import gc
import importlib
import json
import os
import resource
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from tests.kit.watching import die_with_the_tests

ROOT = Path(__file__).parents[2]
HOOK = Path(__file__).parent / "hook"
ADDRESS = "GRAFTLINE_WARM_STAGES"
LATE = ("great_expectations.expectations", "sklearn.decomposition", "torch._dynamo", "torch._inductor", "tqdm")


@contextmanager
def warm_stages() -> Iterator[dict[str, str]]:
    """Start the process, and yield the environment of those who are to use it."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "socket"
        command = [sys.executable, "-m", "tests.kit.warm_stages", str(place)]
        started = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, preexec_fn=die_with_the_tests,
            start_new_session=True,
        )  # fmt: skip
        with started as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
                paths = [str(HOOK), *filter(None, [os.environ.get("PYTHONPATH")])]
                yield {ADDRESS: str(place), "PYTHONPATH": os.pathsep.join(paths)}
            finally:
                process.kill()


def serve(place: Path) -> None:
    """Import everything, then fork a stage for each request until the tests end."""
    for file in sorted((ROOT / "tasks").glob("*.py")):
        if file.stem != "__main__":
            importlib.import_module(f"tasks.{file.stem}" if file.stem != "__init__" else "tasks")
    for name in LATE:
        importlib.import_module(name)
    gc.freeze()  # no stage looks through the objects of all these modules for garbage
    code = _code_of(ROOT)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(place))
    listening.listen(16)
    os.write(1, b"ready\n")
    waiting = selectors.DefaultSelector()
    waiting.register(listening, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is listening:
                connection, _ = listening.accept()
                if (pid := _fork(connection, code)) is not None:
                    ending = os.pidfd_open(pid)
                    waiting.register(ending, selectors.EVENT_READ, (connection, pid))
                    waiting.register(connection, selectors.EVENT_READ, pid)
            elif isinstance(key.data, int):  # whoever asked is gone
                waiting.unregister(key.fileobj)
                os.kill(key.data, signal.SIGKILL)
            else:
                connection, pid = key.data
                waiting.unregister(key.fileobj)
                os.close(key.fd)
                _answer(connection, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                if connection in waiting.get_map():
                    waiting.unregister(connection)
                connection.close()


def _answer(connection: socket.socket, status: int | str) -> None:
    with suppress(OSError):  # whoever asked may be gone
        connection.sendall(f"{status}\n".encode())


def _fork(connection: socket.socket, code: dict[str, bytes]) -> int | None:
    """Start the stage that the other side asks for, and return its process; None where it is declined."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    request = json.loads(connection.makefile("rb").readline())
    peer = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    is_ours = peer[1] == os.getuid() and _code_of(Path(request["folder"])) == code
    pid = os.fork() if is_ours else None
    if pid == 0:
        try:
            _become(request, streams)
        finally:
            os._exit(70)  # no fork comes back to the loop
    for stream in streams:
        os.close(stream)
    if pid is None:
        _answer(connection, "")
        connection.close()
    return pid


def _become(request: dict[str, Any], streams: list[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = os.fdopen(0)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for name, limit in request["limits"].items():
        resource.setrlimit(getattr(resource, name), limit)
    if "OMP_NUM_THREADS" in os.environ:
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    from tests.kit.verbs import status_of  # it imports torch, which whoever starts this process need not wait for

    name, *arguments = request["arguments"]
    sys.argv = [name, *arguments]
    sys.path[0] = request["folder"]
    sys.modules.pop(name, None)  # it runs as __main__
    status = status_of(partial(runpy.run_module, name, run_name="__main__", alter_sys=True))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _code_of(folder: Path) -> dict[str, bytes]:
    files = [file for file in (folder / "tasks").rglob("*") if file.suffix in (".py", ".html", ".css", ".js")]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
