"""The seam to DVC: the one module that starts it. A command in; its lines, as they come, and its exit status out."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from flows.files import write_whole
from flows.guard import MARK, guarded
from flows.lockfile import keep_whole
from flows.redaction import redactor

LOCK = Path(".dvc/tmp/graftline.lock")
HOURS = "GRAFTLINE_DVC_HOURS"
DEFAULT_HOURS = "24"
MAX_HOURS = 1_000  # a timer takes no number however large
LOCK_SECONDS = 1.0  # between two looks at a lock that is waited for
ENDING_SECONDS = 5.0  # for what is told to end, before it is killed
ADVICE = (
    "Updating lock file",
    "Generating lock file",
    "To track the changes",
    "git add",
    "To enable auto staging",
    "dvc config core.autostage",
    "Use `dvc push`",
    "Relinked successfully",
    "If there are no processes with such PIDs",  # `only_writer` has seen to that
)
OF_DVC = re.compile(r"ERROR: |'.+' (?:is invalid|validation failed)")  # how it begins to say what is wrong
OF_A_FILE = re.compile(r"is invalid|validation failed|structure is corrupted")
OF_A_LOCK = re.compile(r"is busy, it is being blocked by")
GOES_ON = re.compile(f"{OF_A_FILE.pattern}|{OF_A_LOCK.pattern}")  # in the lines that follow
PROBLEM_LINES = 4
HINTS = {
    OF_A_LOCK: "wait for that process, then run again",
    OF_A_FILE: "mend that file (`git diff` shows what was changed in it), then run again",
    re.compile(r"\[Errno 20\]"): "a file stands where a folder belongs: move it away, then run again",
}


Lines = Generator[str, None, None]


@dataclass(frozen=True)
class Hold:
    """Of this workspace, by this process."""

    descriptor: int  # of the lock
    mark: str  # by which DVC, and what it starts, is ended where this process is killed


_holds: list[Hold] = []


class DvcError(Exception):
    """DVC ended with an error; the message is the line that says why."""


def dvc(*arguments: str, log: Callable[[str], None]) -> None:
    """Run `dvc ARGUMENTS`, handing each line of its output to `log`. Raises what `lines_of` does."""
    for line in lines_of(*arguments):
        log(line)


def lines_of(*arguments: str) -> Lines:
    """Run `dvc ARGUMENTS` in its own process group; the lines of its output, as they come. The group is ended where the lines are
    left before their end.

    Raises:
        DvcError: it exited with an error, or ran for longer than it may (then the whole group is ended).
        ValueError: GRAFTLINE_DVC_HOURS is no number of hours.
    """
    hours = dvc_hours()
    environment = os.environ | {
        "SHELL": "/bin/sh",  # stages run in the user's shell otherwise, whichever that is
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "DVC_NO_ANALYTICS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if _holds:
        environment[MARK] = _holds[-1].mark
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        pass_fds=held(),  # the lock outlives this process for as long as DVC does
    )
    is_late = threading.Event()

    def end_late() -> None:
        is_late.set()
        _end(process)

    watchdog = threading.Timer(3600 * hours, end_late)
    watchdog.daemon = True
    watchdog.start()
    problem: list[str] = []
    redact = redactor()
    try:
        assert process.stdout is not None
        for line in map(redact, map(str.strip, process.stdout)):
            # a stage says what is wrong in its line; DVC only that the stage failed
            if line.startswith("error: ") or (not problem and OF_DVC.match(line)):
                problem = [line.removeprefix("ERROR: ").removeprefix("error: ")]
            elif line.startswith(ADVICE):
                continue
            elif line and problem and len(problem) < PROBLEM_LINES and GOES_ON.search(problem[0]):
                problem.append(line)
            if line and not line.endswith("didn't change, skipping"):
                yield line
        status = process.wait()
        if is_late.is_set():
            raise DvcError(
                f"dvc {' '.join(arguments)} was ended after {hours:g} hours: give it more with {HOURS}, then run again; what was "
                "finished is kept"
            )
        if status != 0:
            raise DvcError(advised(" ".join(problem)) or f"dvc {' '.join(arguments)} exited with {status}")
    finally:
        watchdog.cancel()
        if process.stdout is not None:
            process.stdout.close()
        _end(process)  # its group may outlive it: a stage whose DVC was killed


def dvc_hours() -> float:
    """How long a DVC command, such as a whole `dvc repro`, may take. Raises ValueError where GRAFTLINE_DVC_HOURS has no such number."""
    given = os.environ.get(HOURS) or DEFAULT_HOURS
    try:
        hours = float(given)
    except ValueError:
        hours = 0.0
    if not 0 < hours <= MAX_HOURS:
        raise ValueError(f"{HOURS} is {given!r}, expected hours such as {DEFAULT_HOURS}, at most {MAX_HOURS:,}")
    return hours


def advised(problem: str) -> str:
    """With what to do, where DVC says only what it met."""
    return ": ".join([problem, *(hint for found, hint in HINTS.items() if found.search(problem))])


def held() -> list[int]:
    """What a process that is started must inherit, so that this workspace is held until it ends, too."""
    return [hold.descriptor for hold in _holds]


def stages(dvc_file: Path = Path("dvc.yaml")) -> list[str]:
    """The names of the stages, in the order in which dvc.yaml has them."""
    import yaml

    return list(yaml.safe_load(dvc_file.read_text("utf-8"))["stages"])


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
        with guarded([file.fileno()]) as mark:
            hold = Hold(file.fileno(), mark)
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


def _end(process: subprocess.Popen[str]) -> None:
    """End the whole group, which may outlive its leader: first politely, then not."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        end = time.monotonic() + ENDING_SECONDS
        try:
            os.killpg(process.pid, sign)
            while time.monotonic() < end:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(0.05)
        except ProcessLookupError:
            return
