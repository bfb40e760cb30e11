"""One writer a workspace: a lock that outlives no run, and the locks of DVC that a killed run left."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from flows.workspace.guard import guarded
from flows.workspace.lockfile import keep_whole
from tasks.machine.files import write_whole

LOCK = Path(".dvc/tmp/graftline.lock")
LOCK_SECONDS = 1.0  # between two looks at a lock that is waited for
ENDING_SECONDS = 5.0  # for what is told to end, before it is killed


@dataclass(frozen=True)
class Hold:
    """Of this workspace, by this process."""

    descriptor: int  # of the lock
    mark: str  # by which DVC, and what it starts, is ended where this process is killed


_holds: list[Hold] = []


def mark() -> str | None:
    """The mark of the hold that this process has; None where it holds no workspace."""
    return _holds[-1].mark if _holds else None


def held() -> list[int]:
    """What a process that is started must inherit, so that this workspace is held until it ends, too."""
    return [hold.descriptor for hold in _holds]


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
        with guarded([file.fileno()]) as new_mark:
            hold = Hold(file.fileno(), new_mark)
            _holds.append(hold)
            try:
                _drop_dead_locks()
                keep_whole()
                yield
                keep_whole()
            finally:
                _holds.remove(hold)


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
