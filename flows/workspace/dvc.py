"""The seam to DVC, and the only module that starts it."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

from flows.workspace.environment import environment
from flows.workspace.guard import MARK, held, mark
from flows.workspace.hold import ENDING_SECONDS
from flows.workspace.redaction import redactor
from tasks.machine.failures import VARIABLE, Failure, read_failures
from tasks.machine.names import on_one_line

HOURS = "GRAFTLINE_DVC_HOURS"
DEFAULT_HOURS = "24"
QUESTION_SECONDS = 300.0  # a question changes nothing, and takes seconds
MAX_HOURS = 1_000  # a timer cannot wait for any number of hours
HIDDEN_ADVICE = (
    "Updating lock file",
    "Generating lock file",
    "To track the changes",
    "git add",
    "To enable auto staging",
    "dvc config core.autostage",
    "Use `dvc push`",
    "Relinked successfully",
    "If there are no processes with such PIDs",  # `only_writer` has removed the locks of dead processes
)
ERROR_OF_DVC = re.compile(r"ERROR: |'.+' (?:is invalid|validation failed)")  # the first line of an error
ERROR_IN_A_FILE = re.compile(r"is invalid|validation failed|structure is corrupted")
ERROR_OF_A_LOCK = re.compile(r"is busy, it is being blocked by")
HAS_MORE_LINES = re.compile(f"{ERROR_IN_A_FILE.pattern}|{ERROR_OF_A_LOCK.pattern}")  # the next lines belong to it
PROBLEM_LINES = 4
WARM = Path("tasks/stage/warm.py")  # forks stages
LEAN = Path("flows/workspace/lean.py")  # runs DVC
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # DVC writes colours where an IDE sets PYCHARM_HOSTED
HINTS = {
    ERROR_OF_A_LOCK: "wait for that process, then run again",
    ERROR_IN_A_FILE: "mend that file (`git diff` shows what was changed in it), then run again",
    re.compile(r"\[Errno 20\]"): "a file stands where a folder belongs: move it away, then run again",
}


Lines = Generator[str, None, None]


class DvcError(Exception):
    """The error of a DVC command; the message is the line with the reason."""

    def __init__(self, message: str, *, is_of_a_verb: bool = False) -> None:
        super().__init__(message)
        self.is_of_a_verb = is_of_a_verb  # the message is that of a stage's verb


def dvc(*arguments: str, log: Callable[[str], None]) -> None:
    """Run `dvc ARGUMENTS`, and log each line of its output. The errors are those of `lines_of`."""
    for line in lines_of(*arguments):
        log(line)


def answer_of(*arguments: str) -> list[str]:
    """Return the lines with which DVC answers a question, such as `metrics diff`.

    The errors are those of `lines_of`. DVC has QUESTION_SECONDS, because it can wait for ever for the data of a
    clone without any.
    """
    return list(lines_of(*arguments, seconds=QUESTION_SECONDS))


def lines_of(*arguments: str, seconds: float | None = None, failures: list[Failure] | None = None) -> Lines:
    """Run `dvc ARGUMENTS` in a process group of its own, and yield the lines of its output as they come.

    A line may have any name of a stranger in it: it is only for people to read. The error of a stage that failed comes
    from a file. If the caller closes the generator early, the whole group is ended.

    Args:
        failures: the list that gets the failures of stages; DVC hides them with --ignore-errors.
        seconds: how long it may take; None for the hours of GRAFTLINE_DVC_HOURS.

    Raises:
        DvcError: DVC exited with an error, or ran longer than allowed; then the whole group is ended.
        ValueError: GRAFTLINE_DVC_HOURS is not a number of hours.
    """
    limit = 3600 * dvc_hours() if seconds is None else seconds
    own_mark = mark()
    folder = tempfile.TemporaryDirectory(prefix="graftline-")
    failures_file = Path(folder.name) / "failures"
    surroundings = environment(
        SHELL="/bin/sh",  # else stages run in the user's shell
        PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        DVC_NO_ANALYTICS="1",
        PYTHONUNBUFFERED="1",
        # large pages, where the system gives them: a stage that fills arrays then waits less for memory
        GLIBC_TUNABLES=os.environ.get("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"),
        **({MARK: own_mark} if own_mark else {}),
        **{VARIABLE: str(failures_file)},
    )
    program = [sys.executable, "-m", *_program(), "--wait-for-lock", *arguments]
    process = subprocess.Popen(
        [*_warm_starts(Path(folder.name), *arguments), *program],
        env=surroundings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        pass_fds=held(),  # the workspace stays locked for as long as DVC runs, even if this process dies
    )
    is_late = threading.Event()

    def end_late() -> None:
        is_late.set()
        _end(process)

    watchdog = threading.Timer(limit, end_late)
    watchdog.daemon = True
    watchdog.start()
    problem: list[str] = []
    redact = redactor()
    try:
        assert process.stdout is not None
        for line in map(on_one_line, (redact(COLOUR.sub("", line.expandtabs()).strip()) for line in process.stdout)):
            if not problem and ERROR_OF_DVC.match(line):
                problem = [line.removeprefix("ERROR: ")]
            elif line.startswith(HIDDEN_ADVICE):
                continue
            elif line and problem and len(problem) < PROBLEM_LINES and HAS_MORE_LINES.search(problem[0]):
                problem.append(line)
            if line and not line.endswith("didn't change, skipping"):
                yield line
        status = process.wait()
        command = f"dvc {' '.join(arguments)}"
        if is_late.is_set():
            if seconds is not None:
                raise DvcError(
                    f"{command} gave no answer within {seconds:g} s, and was ended: in a clone that was made with "
                    "--filter run `git fetch --refetch --no-filter`, else run the command by hand"
                )
            raise DvcError(
                f"{command} was ended after {limit / 3600:g} hours: allow more with {HOURS}, then run again; "
                "what was finished is kept"
            )
        of_stages = [replace(failure, error=redact(failure.error)) for failure in read_failures(failures_file)]
        if failures is not None:
            failures += of_stages
        if status != 0 and of_stages:  # DVC only prints that the stage failed
            raise DvcError(of_stages[-1].error, is_of_a_verb=True)
        if status != 0:
            raise DvcError(with_hint(" ".join(problem)) or f"{command} exited with {status}")
    finally:
        watchdog.cancel()
        if process.stdout is not None:
            process.stdout.close()
        folder.cleanup()
        _end(process)  # the group may outlive its leader: a stage whose DVC was killed


def dvc_hours() -> float:
    """Return the limit in hours for a DVC command, such as a whole `dvc repro`.

    Raises:
        ValueError: GRAFTLINE_DVC_HOURS is not such a number.
    """
    setting = os.environ.get(HOURS) or DEFAULT_HOURS
    try:
        hours = float(setting)
    except ValueError:
        hours = 0.0
    if not 0 < hours <= MAX_HOURS:
        raise ValueError(f"{HOURS} is {setting!r}, expected hours such as {DEFAULT_HOURS}, at most {MAX_HOURS:,}")
    return hours


def with_hint(problem: str) -> str:
    """Return the problem with advice, where DVC gives none itself."""
    return ": ".join([problem, *(hint for pattern, hint in HINTS.items() if pattern.search(problem))])


def _warm_starts(folder: Path, command: str, *options: str) -> list[str]:
    """Return the words before a command whose stages are forked from a process that has done their imports.

    `folder` is open to this user alone; DVC's process group is that of the stages, as without it.
    """
    has_stages = command == "repro" and "--dry" not in options
    if not has_stages or not WARM.is_file() or not hasattr(os, "pidfd_open"):
        return []
    return [sys.executable, "-m", _module(WARM), str(folder / "warm")]


def _program() -> list[str]:
    """Return the words after `python -m` that run DVC; a project without our code has DVC alone."""
    return [_module(LEAN), "dvc"] if LEAN.is_file() else ["dvc"]


def _module(file: Path) -> str:
    return ".".join(file.with_suffix("").parts)


def _end(process: subprocess.Popen[str]) -> None:
    """End the whole process group, which may outlive its leader: first by SIGTERM, then by SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        end = time.monotonic() + ENDING_SECONDS
        try:
            os.killpg(process.pid, number)
            while time.monotonic() < end:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(0.05)
        except ProcessLookupError:
            return
