"""Ends all descendants of a process when it ends, even by a kill.

A small guard process waits for that end, then ends every process with a mark that was put into the environment: after a
`kill -9` no other process could. This works on Linux alone.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from flows.workspace.environment import settle_environment
from flows.workspace.redaction import in_a_line

MARK = "GRAFTLINE_RUN"  # in the environment, which every child inherits
END_SECONDS = 7.0  # from SIGTERM to the end of the process, at most
GRACE_SECONDS = 3.0  # from SIGTERM to SIGKILL for the marked processes

GUARD = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdin.buffer.read()  # returns when the guarded process ends
mark = sys.argv[1].encode()
def marked():
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if mark in file.read().split(b"\\0"):
                    yield int(name)
        except OSError:
            pass
asked, num_empty = set(), 0
end = time.monotonic() + float(sys.argv[2])
while num_empty < 2:  # a process that is just being started has no mark yet
    found = set(marked())
    is_late = time.monotonic() > end
    for pid in found if is_late else found - asked:
        try:
            os.kill(pid, signal.SIGKILL if is_late else signal.SIGTERM)
        except OSError:
            pass
    asked |= found
    num_empty = 0 if found else num_empty + 1
    time.sleep(0.1)
"""


def run_guarded(run: Callable[[], int]) -> None:
    """Run the function and exit with its status, under a guard.

    SIGTERM ends the process as an interrupt does, within seconds, so that it releases what it holds. Prefect's
    temporary server ends with it too.

    Prefect must not be imported yet: `run` does that, in an environment that is made fit for it.
    """
    settle_environment()
    mark = uuid4().hex
    os.environ[MARK] = mark
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _bound_the_end()
    _start(mark)
    try:
        status = run()
    except KeyboardInterrupt:  # from the keyboard: a person who stops a run needs no traceback
        status = 130
    except (ConnectionError, ValueError) as error:  # no server, or settings of Prefect's that are wrong
        if os.environ.get("GRAFTLINE_TRACEBACK"):
            raise
        sys.exit(f"error: {in_a_line(error)}")
    sys.exit(status)


def _bound_the_end() -> None:
    """End this process END_SECONDS after SIGTERM.

    Prefect handles the signal while a flow runs, and would go on for minutes to report to a server that is gone.
    """
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.detach(), warn_on_full_buffer=False)  # gets each signal's number, whoever handles it

    def watch() -> None:
        while signal.SIGTERM not in reading.recv(1):
            pass
        time.sleep(END_SECONDS)
        os._exit(143)

    threading.Thread(target=watch, daemon=True).start()


_blocks: list[tuple[str, Sequence[int]]] = []  # the guarded blocks that this process is in: mark and descriptors


@contextmanager
def guarded(holding: Sequence[int]) -> Iterator[None]:
    """Guard the processes that this process starts in the block.

    If this process dies in the block, every process with the block's mark is ended. The descriptors stay open until
    all of these are gone.
    """
    block = uuid4().hex, holding
    guard = _start(*block)
    _blocks.append(block)
    try:
        yield
    finally:
        _blocks.remove(block)
        if guard is not None:
            guard.kill()
            guard.communicate()


def mark() -> str | None:
    """Return the mark that a started process must have in its environment; None outside of a guarded block."""
    return _blocks[-1][0] if _blocks else None


def held() -> list[int]:
    """Return the descriptors that a started process must inherit, so that the workspace is held until it ends."""
    return [descriptor for _, holding in _blocks for descriptor in holding]


def _start(mark: str, holding: Sequence[int] = ()) -> subprocess.Popen[bytes] | None:
    if not Path("/proc/self/environ").exists():
        return None
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", GUARD, f"{MARK}={mark}", str(GRACE_SECONDS)],
        stdin=subprocess.PIPE,  # nothing is written to it; it closes when this process ends
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name != MARK},
        pass_fds=holding,
        start_new_session=True,  # so that an interrupt from the keyboard does not reach it
    )
