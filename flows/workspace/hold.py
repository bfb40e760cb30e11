"""Let one run at a time write in a workspace: a lock that is free when its run ends, even if it was killed."""

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from flows.workspace.guard import guarded
from flows.workspace.lockfile import keep_whole
from flows.workspace.mending import mend
from tasks.machine.files import no_link

logger = logging.getLogger("graftline")

LOCK = Path(".dvc/tmp/graftline.lock")
LOCK_SECONDS = 1.0  # between two looks at a lock that is waited for
ENDING_SECONDS = 5.0  # from SIGTERM to SIGKILL


@contextmanager
def only_writer(*, wait_seconds: float = 0.0, log: Callable[[str], None] = logger.warning) -> Iterator[None]:
    """Hold this workspace for one run. If the run is killed, its DVC is ended before the workspace is free.

    The remains of killed programs are mended first: locks, and a dvc.lock that is cut off. `log` gets a line for each.

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
            mend(log)
            keep_whole(log)
            yield
            keep_whole(log)


def _is_alive(holder: str) -> bool:
    """Return whether that process runs. If it was killed, its guard may still be ending its child processes."""
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
