"""The seam to DVC: the one module that starts it. A command in; its lines, as they come, and its exit status out."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

from flows.workspace.guard import MARK, held, mark
from flows.workspace.hold import ENDING_SECONDS
from flows.workspace.redaction import redactor

HOURS = "GRAFTLINE_DVC_HOURS"
DEFAULT_HOURS = "24"
MAX_HOURS = 1_000  # a timer takes no number however large
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
    if own_mark := mark():
        environment[MARK] = own_mark
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
