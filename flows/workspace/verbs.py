"""Runs a verb of `tasks` that is no stage, in a process of its own, and reads its error from the file of failures."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tasks.machine.failures import VARIABLE, MissingDataError, read_failures


def run_verb(verb: str, *arguments: str, timeout: float | None = None) -> "subprocess.CompletedProcess[str]":
    """Run `python -m tasks.VERB ARGUMENTS`, and return its exit status, with its output.

    Raises:
        MissingDataError: it misses data that DVC tracks.
        ValueError: it ended with another error; the message is its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "failures"
        done = subprocess.run(
            [sys.executable, "-m", f"tasks.{verb}", *arguments],
            env=os.environ | {VARIABLE: str(place)}, capture_output=True, text=True, errors="replace", check=False,
            timeout=timeout,
        )  # fmt: skip
        failures = read_failures(place)
    if done.returncode == 0:
        return done
    if not failures:
        lines = done.stderr.strip().splitlines() or [f"tasks.{verb} ended without a message"]
        raise ValueError(lines[-1])
    if pointer := failures[-1].pointer:
        raise MissingDataError(failures[-1].error, pointer=pointer)
    raise ValueError(failures[-1].error)
