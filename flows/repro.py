"""The seam to DVC: the one module that starts it. A command in; its lines, as they come, and its exit status out."""

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from flows.redaction import redactor

LOCK = Path(".dvc/tmp/graftline.lock")
LOCK_SECONDS = 1.0  # between two looks at a lock that is waited for
ADVICE = (
    "Updating lock file",
    "Generating lock file",
    "To track the changes",
    "git add",
    "To enable auto staging",
    "dvc config core.autostage",
    "Use `dvc push`",
    "Relinked successfully",
)


Lines = Generator[str, None, None]

_held: list[int] = []  # the descriptor of the lock, while this process holds it


class DvcError(Exception):
    """DVC ended with an error; the message is the line that says why."""


def dvc(*arguments: str, log: Callable[[str], None], timeout_seconds: float = 24 * 3600) -> None:
    """Run `dvc ARGUMENTS`, handing each line of its output to `log`. Raises DvcError as `lines_of` does."""
    for line in lines_of(*arguments, timeout_seconds=timeout_seconds):
        log(line)


def lines_of(*arguments: str, timeout_seconds: float = 24 * 3600) -> Lines:
    """Run `dvc ARGUMENTS` in its own process group; the lines of its output, as they come. The group is ended where the lines are
    left before their end.

    Raises:
        DvcError: it exited with an error, or ran past the timeout (then the whole group is ended).
    """
    environment = os.environ | {
        "SHELL": "/bin/sh",  # stages run in the user's shell otherwise, whichever that is
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "DVC_NO_ANALYTICS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=_die_with_parent,
        pass_fds=held(),  # the lock outlives this process for as long as DVC does
    )
    watchdog = threading.Timer(timeout_seconds, _end, [process])
    watchdog.daemon = True
    watchdog.start()
    problem = ""
    redact = redactor()
    try:
        assert process.stdout is not None
        for line in map(redact, map(str.strip, process.stdout)):
            # a stage says what is wrong in its line; DVC only that the stage failed
            if line.startswith("error: ") or (line.startswith("ERROR: ") and not problem):
                problem = line.split(": ", 1)[1]
            if line and not line.startswith(ADVICE) and not line.endswith("didn't change, skipping"):
                yield line
        if process.wait() != 0:
            raise DvcError(problem or f"dvc {' '.join(arguments)} exited with {process.returncode}")
    finally:
        watchdog.cancel()
        if process.stdout is not None:
            process.stdout.close()
        _end(process)  # its group may outlive it: a stage whose DVC was killed


def held() -> list[int]:
    """What a process that is started must inherit, so that this workspace is held until it ends, too."""
    return list(_held)


def stages(dvc_file: Path = Path("dvc.yaml")) -> list[str]:
    """The names of the stages, in the order in which dvc.yaml has them."""
    import yaml

    return list(yaml.safe_load(dvc_file.read_text("utf-8"))["stages"])


@contextmanager
def only_writer(*, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold this workspace for one run. Raises BlockingIOError naming who holds it, still after `wait_seconds`."""
    if not LOCK.parent.parent.is_dir():
        raise FileNotFoundError(f"{Path.cwd()} is no DVC workspace: run from the root of the repository")
    LOCK.parent.mkdir(exist_ok=True)
    end = time.monotonic() + wait_seconds
    with LOCK.open("a+") as file:
        while not _is_locked(file):
            if time.monotonic() >= end:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise BlockingIOError(f"{holder} is at work in {Path.cwd()}: wait for it, then run again")
            time.sleep(LOCK_SECONDS)
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        _held.append(file.fileno())
        try:
            _drop_torn_locks()
            yield
        finally:
            _held.remove(file.fileno())


def _is_locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _drop_torn_locks() -> None:
    """DVC writes its list of locks in place: one that was killed meanwhile leaves it torn, and no other would start."""
    torn = LOCK.with_name("rwlock")
    with LOCK.with_name("rwlock.lock").open("a") as guard, suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)  # DVC holds it while it writes
        try:
            json.loads(torn.read_text("utf-8"))
        except ValueError:
            torn.unlink()


def _die_with_parent() -> None:
    """Ask Linux to end DVC when this process dies, however; its stages ask the same of DVC."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _end(process: subprocess.Popen[str]) -> None:
    """End the whole group: first politely, then not."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(timeout=5)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
