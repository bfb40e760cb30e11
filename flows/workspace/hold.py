"""One writer a workspace: a lock that is free when its run ends, and no lock of DVC's that a killed run left."""

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
from tasks.machine.files import no_link, write_whole

LOCK = Path(".dvc/tmp/graftline.lock")
LOCK_SECONDS = 1.0  # between two looks at a lock that is waited for
ENDING_SECONDS = 5.0  # from SIGTERM to SIGKILL


@contextmanager
def only_writer(*, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold this workspace for one run. If the run is killed, its DVC is ended before the workspace is free.

    Raises:
        BlockingIOError: another process still holds it after `wait_seconds`; the message names the process.
        FileNotFoundError: this is not a workspace.
    """
    if not LOCK.parent.parent.is_dir():
        raise FileNotFoundError(f"{Path.cwd()} is not a DVC workspace: run from the root of the repository")
    LOCK.parent.mkdir(exist_ok=True)
    end = time.monotonic() + wait_seconds
    with open(LOCK, "a+", opener=no_link) as file:
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
    """Return whether that process runs. If it was killed, its guard may still end what it started."""
    try:
        os.kill(int(holder), 0)
    except ProcessLookupError:
        return False
    except (ValueError, PermissionError):
        pass  # it has not written its number yet; or it is another user's
    return True


def _is_locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _drop_dead_locks() -> None:
    """Remove the locks of a killed DVC from DVC's list.

    DVC writes the list in place: a torn one stops every other DVC. A lock of a dead process can name a number that
    another process has by now, as after a restart of the machine: then every other DVC would wait for that one for
    ever.
    """
    file = LOCK.with_name("rwlock")
    with LOCK.with_name("rwlock.lock").open("a") as guard, suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)  # DVC holds it while it writes
        try:
            locks = {"read": {}, "write": {}} | json.loads(file.read_text("utf-8"))
            reads = {path: [info for info in infos if _is_at_work(info)] for path, infos in locks["read"].items()}
            writes = {path: info for path, info in locks["write"].items() if _is_at_work(info)}
        except (ValueError, TypeError, KeyError, AttributeError):
            file.unlink()
        else:
            if (alive := {"read": reads, "write": writes}) != locks:
                write_whole(file, json.dumps(alive).encode())


def _is_at_work(info: dict[str, Any]) -> bool:
    """Return whether the process of that number is the one that DVC noted: its command ends in the same word."""
    try:
        command = Path(f"/proc/{info['pid']}/cmdline").read_text("utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return not Path("/proc/self/cmdline").exists()  # a system without /proc: DVC decides
    except PermissionError:
        return True
    return command.rstrip("\0").endswith(info["cmd"].split(" ")[-1])
