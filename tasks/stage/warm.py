"""Runs a command such as `dvc repro`, and forks the verbs that it starts: `python -m tasks.stage.warm SOCKET COMMAND…`.

The imports of a stage take seconds, and stages import the same modules. This process imports the modules of a verb at
its first request, and every verb then runs in a fork of its own. `tasks.stage.handover` is the other side.

No byte depends on it: a verb with another environment, or with changed comments in its code, runs by itself, as every
verb does without this process. Where the code computes something else by now, the verb is refused: DVC would keep its
result under the digest of the code that this process began with.
"""

import ast
import atexit
import gc
import importlib
import os
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from tasks.machine.lifeline import die_with_parent
from tasks.machine.sources import digest, is_same_code, parts_of_rooms
from tasks.stage.handover import ADDRESS, CHANGED, environment

PACKAGE = Path(__file__).parents[1]
SECONDS = 10.0  # in which a verb has to send its request


@dataclass(kw_only=True)
class Fork:
    """A verb at work: its process, the end of that process, and the process that asked for it."""

    pid: int
    end: int
    asker: socket.socket


@dataclass(kw_only=True)
class Forks:
    """The verbs at work, and the test of whether another may be forked."""

    listening: socket.socket
    code: dict[str, bytes] = field(default_factory=lambda: code())
    environment: dict[str, str] = field(default_factory=lambda: environment(os.environ))
    waiting: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)
    at_work: list[Fork] = field(default_factory=list)

    def serve(self, command: subprocess.Popen[bytes]) -> dict[str, Any] | None:
        """Fork a verb for each request until the command ends; then return None. In a fork, return its request."""
        end = os.pidfd_open(command.pid)
        for source in (end, self.listening):
            self.waiting.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in self.waiting.select():
                if key.fileobj == end:
                    return None
                if key.fileobj is self.listening:
                    if (request := self.answer(self.listening.accept()[0])) is not None:
                        os.close(end)
                        return request
                elif key.data in self.at_work:
                    self.finish(key.data)

    def answer(self, asker: socket.socket) -> dict[str, Any] | None:
        """Fork the verb that the other side asks for, or decline. In the fork, return the request."""
        asker.settimeout(SECONDS)
        request: dict[str, Any] | None = None
        streams: list[int] = []
        with suppress(OSError, ValueError, SyntaxError):
            _, streams, _, _ = socket.recv_fds(asker, 1, 3)
            request = ast.literal_eval(asker.makefile(encoding="utf-8").readline())
        is_ours = request is not None and len(streams) == 3 and self.is_ours(asker, request)
        now = code() if is_ours else {}
        if request is None or not is_ours or now != self.code or not _import(request["verb"]):
            with suppress(OSError):
                asker.sendall(CHANGED if is_ours and self.computes_otherwise(now) else b"")
            asker.close()
        elif (pid := _fork()) == 0:
            self.leave()
            with suppress(OSError):  # the asker may be gone
                # answered here: the asker never runs a verb again that has begun, even if its parent is killed now
                asker.sendall(b"forked\n")
            asker.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            return request
        else:
            fork = Fork(pid=pid, end=os.pidfd_open(pid), asker=asker)
            self.at_work.append(fork)
            for source in (fork.end, asker):  # the asker sends no more: it can be read once it is gone
                self.waiting.register(source, selectors.EVENT_READ, fork)
        for stream in streams:
            os.close(stream)
        return None

    def is_ours(self, asker: socket.socket, request: dict[str, Any]) -> bool:
        """Return whether a fork would do the same as the process that asks."""
        peer = asker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return (
            struct.unpack("3i", peer)[1] == os.getuid()
            and request["python"] == sys.executable
            and request["package"] == str(PACKAGE)
            and environment(request["environment"]) == self.environment
        )

    def computes_otherwise(self, now: dict[str, bytes]) -> bool:
        """Return whether a file of the code was changed in more than its comments since this process began."""
        return any(
            now.get(file) != content
            and not is_same_code(content, now.get(file, b""), path=Path(file).relative_to(PACKAGE))
            for file, content in self.code.items()
        )

    def finish(self, fork: Fork) -> None:
        """Report how the fork ended to the caller that asked; where nobody waits any more, end the fork."""
        with suppress(ProcessLookupError):
            os.kill(fork.pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(fork.pid, 0)[1])
        self.at_work.remove(fork)
        for source in (fork.end, fork.asker):
            self.waiting.unregister(source)
        os.close(fork.end)
        with suppress(OSError):
            fork.asker.sendall(f"{status}\n".encode())
        fork.asker.close()

    def leave(self) -> None:
        """Close, in a fork, the files of the parent and of other forks."""
        self.waiting.close()
        self.listening.close()
        for fork in self.at_work:
            os.close(fork.end)
            fork.asker.close()


def main(address: str, *command: str) -> None:
    gc.disable()  # imports make hardly any garbage, and to look for it takes a fifth of their time
    with socket.socket(socket.AF_UNIX) as listening:
        try:
            listening.bind(address)
        except OSError:  # a path of more than 107 bytes, or a disk without sockets
            os.execv(command[0], command)  # noqa: S606  there is nothing for a shell to do
        listening.listen()
        # close_fds: the command keeps the files that the flow holds open until it ends
        process = subprocess.Popen(command, env=os.environ | {ADDRESS: address}, close_fds=False)
        request = Forks(listening=listening).serve(process)
    if request is None:
        status = process.wait()
        if status < 0:  # the signal that ended it
            with suppress(OSError):  # of SIGKILL
                signal.signal(-status, signal.SIG_DFL)
            os.kill(os.getpid(), -status)
        _end(status)
    _become(request)


def code() -> dict[str, bytes]:
    """Return the content of each file of the verbs' code, by its path."""
    content = {}
    for folder, _, names in os.walk(PACKAGE):
        for file in (f"{folder}/{name}" for name in names if name.endswith(".py")):
            with suppress(OSError):  # an editor replaces it, or keeps a link there that leads nowhere
                status = os.stat(file)  # noqa: PTH116  pathlib takes longer than all of this
                content[file] = _content(file, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return content


@cache
def _content(file: str, *state: int) -> bytes:
    """Return the content of a file, which is read again in each other state."""
    return Path(file).read_bytes()


def _import(verb: str) -> bool:
    """Import the modules of the verb; return whether that works. Where it does not, the verb itself reports why."""
    try:
        for module in (verb, *parts_of_rooms(verb)):
            importlib.import_module(module)
        digest(verb)  # which keeps the parsed files: no fork parses them again
        if params := sys.modules.get("tasks.stage.params"):
            params.checker(params.Params)
    except (Exception, SystemExit):
        return False
    return True


def _fork() -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    gc.freeze()  # no fork looks through the objects of all these modules for garbage
    if (pid := os.fork()) == 0:
        gc.enable()
    return pid


def _become(request: dict[str, Any]) -> NoReturn:
    """Run the verb in this fork, which then ends as the verb does."""
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]  # the parent ends what its imports made
    os.environ.update(request["environment"])  # variables that the imports set stay
    die_with_parent()
    os.chdir(request["folder"])
    sys.argv = [request["verb"], *request["arguments"]]
    del sys.modules[request["verb"]]  # it runs once more, as __main__
    status: Any = None
    try:
        runpy.run_module(request["verb"], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    if status is not None and not isinstance(status, int):
        sys.stderr.write(f"{status}\n")
        status = 1
    _end(status or 0)


def _end(status: int) -> NoReturn:
    """End this process as Python does, but without taking all modules apart, which takes a third of a second."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main(*sys.argv[1:])
