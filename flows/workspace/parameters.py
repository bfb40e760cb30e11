"""Check params.yaml and the list of batches before a run, in a process of its own."""

import subprocess
import sys

from flows.workspace import paths


def check_parameters(*, has_batches: bool = True) -> None:
    """Raises ValueError where params.yaml or, unless none is to be there yet, the list of batches is wrong, though nothing may be
    stale."""
    command = [sys.executable, "-m", "tasks.check", *(["--batches", str(paths.batches())] if has_batches else [])]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise ValueError(done.stderr.strip().removeprefix("error: "))
