"""Programs that tests start. Each wait for one has a limit."""

import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 240.0  # for a program, and for anything else that a test waits for


def run(*command: str | Path, status: int | None = 0, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, and return its exit status and output. A test fails on another status (None: any)."""
    output = {} if "stdout" in settings else {"capture_output": True}
    done = subprocess.run(command, text=True, check=False, timeout=SECONDS, **output, **settings)
    assert status is None or done.returncode == status, f"{done.stdout}\n{done.stderr}"
    return done


def run_module(*command: str | Path, status: int | None = 0, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run `python -m COMMAND`, as `run` does."""
    return run(sys.executable, "-m", *command, status=status, **settings)


@contextmanager
def running(*command: str | Path, **settings: Any) -> Iterator[subprocess.Popen[str]]:
    """A program that runs until the block ends, and is killed then."""
    with subprocess.Popen(command, text=True, **settings) as process:
        try:
            yield process
        finally:
            process.kill()


def git(*arguments: str | Path, folder: Path | None = None, status: int = 0) -> str:
    """Run git as a person would, and return what it printed."""
    identity = ("-c", "user.name=a person", "-c", "user.email=person@localhost")
    return run("git", *identity, *arguments, status=status, cwd=folder).stdout


def status_of(work: Callable[[], None]) -> int:
    """Do the work, and return the exit status that Python would give it; print what it raises, as Python does."""
    try:
        work()
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)  # noqa: T201
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
