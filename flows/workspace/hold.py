"""One writer a workspace: a lock that outlives no run, and the locks of DVC that a killed run left."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from flows.workspace.guard import guarded
from flows.workspace.lockfile import keep_whole
from tasks.machine.files import write_whole

LOCK = Path(".dvc/tmp/graftline.lock")
LOCK_SECONDS = 1.0  # between two looks at a lock that is waited for
ENDING_SECONDS = 5.0  # for what is told to end, before it is killed


@contextmanager
def only_writer(*, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold this workspace for one run. Where it is killed, what it had DVC do is ended before the workspace is free.

    Raises:
        BlockingIOError: somebody else holds it, still after `wait_seconds`; it names who.
        FileNotFoundError: this is no workspace.
    """
    if not LOCK.parent.parent.is_dir():
        raise FileNotFoundError(f"{Path.cwd()} is no DVC workspace: run from the root of the repository")
    LOCK.parent.mkdir(exist_ok=True)
    end = time.monotonic() + wait_seconds
    with LOCK.open("a+") as file:
        while not _is_locked(file):
            file.seek(0)
            holder = file.read().strip()
            if time.monotonic() >= end + (0.0 if _is_alive(holder) else ENDING_SECONDS):
                raise BlockingIOError(
                    f"process {holder or '?'} is at work in {Path.cwd()}: wait for it, then run again"
                )
            time.sleep(LOCK_SECONDS)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        with guarded([file.fileno()]):
            _drop_dead_locks()
            keep_whole()
            yield
            keep_whole()


def _is_alive(holder: str) -> bool:
    """Whether that process is; one that was killed may have left something to be ended."""
    try:
        os.kill(int(holder), 0)
    except ProcessLookupError:
        return False
    except (ValueError, PermissionError):
        pass  # it is about to say who it is; or somebody else's
    return True


def _is_locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _drop_dead_locks() -> None:
    """DVC's list of locks has what a killed DVC had: torn, for it is written in place, and no other DVC would start; or under the number
    of a process that is another by now, as after a restart of the machine, and every other would wait for that one for ever."""
    listed = LOCK.with_name("rwlock")
    with LOCK.with_name("rwlock.lock").open("a") as guard, suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)  # DVC holds it while it writes
        try:
            found = {"read": {}, "write": {}} | json.loads(listed.read_text("utf-8"))
            reads = {path: [each for each in infos if _is_at_work(each)] for path, infos in found["read"].items()}
            writes = {path: info for path, info in found["write"].items() if _is_at_work(info)}
        except (ValueError, TypeError, KeyError, AttributeError):
            listed.unlink()
        else:
            if (alive := {"read": reads, "write": writes}) != found:
                write_whole(listed, json.dumps(alive).encode())


def _is_at_work(info: dict[str, Any]) -> bool:
    """Whether the process of that number is the one that DVC wrote down, by the last word of its command."""
    try:
        command = Path(f"/proc/{info['pid']}/cmdline").read_text("utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return not Path("/proc/self/cmdline").exists()  # where nothing is known, DVC decides
    except PermissionError:
        return True
    return command.rstrip("\0").endswith(info["cmd"].split(" ")[-1])
