"""A clone that lacks data in; what the stages need of it, from the DVC remote, out. The raw data of a batch comes only where a stage asks
for it."""

import re
from collections.abc import Callable
from pathlib import Path

from flows.workspace import paths
from flows.workspace.dvc import dvc

# small, a part a batch; DVC pulls no dependency that is a folder of such parts, so a stage would run on those that are there
PARTS = ("scan", "validate", "embed")
OUTCOME = ("finetune", "evaluate", "regression", "report")
NAMED = re.compile(r"`dvc pull (\S+\.dvc)`")  # in the line with which a stage says what it misses

Log = Callable[[str], None]


def pull_parts(log: Log) -> None:
    """What was made of each batch. Outputs that dvc.lock does not know, of a run that was killed, give way: they are made again."""
    dvc("pull", "--force", "--allow-missing", *PARTS, log=log)


def pull_outcome(log: Log) -> None:
    """What is told of a run, and put in use, where none of its stages had to write it."""
    if not (paths.metrics().is_file() and paths.verdict().is_file()):
        dvc("pull", "--allow-missing", *OUTCOME, log=log)


def pull_named(problem: str, log: Log) -> bool:
    """Pull what a stage says that it misses; False where it names nothing that is missing. A stage that misses pictures of one batch
    reads those of every batch."""
    found = NAMED.search(problem)
    if found is None:
        return False
    pointer = Path(found[1])
    raw = paths.raw()
    wanted = sorted(raw.glob("*.dvc")) if pointer.parent == raw else [pointer]
    missing = [each for each in wanted if not each.with_suffix("").exists()]
    if missing:
        log(f"pulling what a stage reads: {', '.join(map(str, missing))}")
        dvc("pull", *map(str, missing), log=log)
    return bool(missing)
