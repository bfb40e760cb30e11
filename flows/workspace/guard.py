"""What a process started ends with it, however it ends.

A small process waits for that end, and then ends whatever carries the mark that it was given: a `kill -9` leaves nobody else to do it.
Linux alone has what it needs.
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

MARK = "GRAFTLINE_RUN"  # in the environment, which is inherited
END_SECONDS = 7.0  # from SIGTERM to the end of the process, at most
GRACE_SECONDS = 3.0  # before what is left is killed

GUARD = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdin.buffer.read()  # to the end, which comes with that of the process that is guarded
mark = sys.argv[1].encode()
def marked():
    for each in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{each}/environ", "rb") as file:
                if mark in file.read().split(b"\\0"):
                    yield int(each)
        except OSError:
            pass
told, empty = set(), 0
end = time.monotonic() + float(sys.argv[2])
while empty < 2:  # one that is just being started has no mark yet
    found = set(marked())
    is_late = time.monotonic() > end
    for each in found if is_late else found - told:
        try:
            os.kill(each, signal.SIGKILL if is_late else signal.SIGTERM)
        except OSError:
            pass
    told |= found
    empty = 0 if found else empty + 1
    time.sleep(0.1)
"""


def run_guarded(run: Callable[[], int]) -> None:
    """Run it and exit with its status; SIGTERM ends it as an interrupt does, so that what it holds is let go, within seconds. Prefect's temporary
    server, where none is named, ends with it, too."""
    mark = uuid4().hex
    os.environ[MARK] = mark
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _bound_the_end()
    _start(mark)
    sys.exit(run())


def _bound_the_end() -> None:
    """After SIGTERM this process ends soon, though Prefect, which handles the signal while a flow runs, would go on for minutes to tell
    a server that is gone."""
    told, tell = socket.socketpair()
    tell.setblocking(False)
    signal.set_wakeup_fd(tell.detach(), warn_on_full_buffer=False)  # each signal's number, whoever handles it

    def watch() -> None:
        while signal.SIGTERM not in told.recv(1):
            pass
        time.sleep(END_SECONDS)
        os._exit(143)

    threading.Thread(target=watch, daemon=True).start()


_blocks: list[tuple[str, Sequence[int]]] = []  # those that this process is in: the mark and the descriptors of each


@contextmanager
def guarded(holding: Sequence[int]) -> Iterator[None]:
    """Guard what this process starts in the block: if this process dies in it, all that carries the block's mark is ended, and these
    descriptors stay open until that is gone."""
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
        stdin=subprocess.PIPE,  # never written to: it ends with this process, which alone has the other end
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name != MARK},
        pass_fds=holding,
        start_new_session=True,  # an interrupt from the keyboard is not for it
    )
