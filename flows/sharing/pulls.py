"""Pulls the inputs of stages from the DVC remote in a clone without data; raw data only where a stage needs it."""

from collections.abc import Callable
from pathlib import Path

from flows.workspace import paths
from flows.workspace.dvc import dvc

# they are small, a part for each batch; DVC pulls no folder of such parts that a stage depends on, so the stage would
# run on the parts that are there
PARTS = ("digest", "scan", "validate", "embed")
OUTCOME = ("adapt", "evaluate", "regression", "report")

Log = Callable[[str], None]


def pull_parts(log: Log) -> None:
    """Pull the parts of each batch. They replace outputs of a killed run, which dvc.lock does not know."""
    dvc("pull", "--force", "--allow-missing", *PARTS, log=log)


def pull_outcome(log: Log) -> None:
    """Pull the outputs that a run reports and puts in use, if no stage had to write them."""
    if not (paths.metrics().is_file() and paths.verdict().is_file()):
        dvc("pull", "--allow-missing", *OUTCOME, log=log)


def pull_health(log: Log) -> None:
    """Pull the audit's report about the data, if the audit did not run anew."""
    if not paths.health().is_file():
        dvc("pull", "--allow-missing", "audit", log=log)


def pull_missing(pointer: str, log: Log) -> bool:
    """Pull the data that a verb misses, and return whether it was missing.

    It is raw data, the model in use, or the model that training goes on from. A verb that misses samples of one batch
    reads those of all batches, so all of them are pulled.
    """
    raw = sorted(paths.raw().glob("*.dvc"))
    known = (raw, [paths.baseline_pointer()], [paths.start_pointer()])
    wanted = next((files for files in known if Path(pointer) in files), [])
    missing = [file for file in wanted if not file.with_suffix("").exists()]
    if missing:
        log(f"pulling what a stage reads: {', '.join(map(str, missing))}")
        dvc("pull", *map(str, missing), log=log)
    return bool(missing)
