"""Check params.yaml and the list of batches before a run, in a process of their own."""

import subprocess
import sys

from flows.workspace import paths


def check_parameters(*, has_batches: bool = True) -> None:
    """Check params.yaml, though no stage may be stale; and the list of batches, unless it is still empty.

    Raises:
        ValueError: one of them is wrong.
    """
    options = ["--batches", str(paths.batches())] if has_batches else []
    command = [sys.executable, "-m", "tasks.check", *options]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise ValueError(done.stderr.strip().removeprefix("error: "))
