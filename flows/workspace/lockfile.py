"""Keeps dvc.lock whole. DVC writes it in place: a kill at that moment leaves it empty or cut off, and unreadable."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from flows.workspace.batches import listed
from flows.workspace.git import committed
from flows.workspace.paths import PIPELINE
from tasks.machine.files import write_whole

logger = logging.getLogger("graftline")

LOCK_FILE = Path("dvc.lock")
LAST_WHOLE = Path(".dvc/tmp/graftline-dvc.lock")
CONFLICT = b"\n<<<<<<< "  # git's mark; a person resolves it


def keep_whole(log: Callable[[str], None] = logger.warning) -> None:
    """Keep a copy of dvc.lock if it is whole; else replace it by the copy, or by the committed file, and log that.

    A file that is committed or staged counts as whole, whatever it lacks: a person chose it, as where two branches were
    merged. Stages that finished since the copy come from DVC's run cache. Only the process that holds the workspace
    may call this.

    Raises:
        ValueError: the list of batches or dvc.yaml is damaged.
    """
    try:
        content = LOCK_FILE.read_bytes()
    except FileNotFoundError:
        return
    kept = LAST_WHOLE.read_bytes() if LAST_WHOLE.is_file() else None
    if content == kept or CONFLICT in content:
        return
    if is_whole(content, before=kept or b"") or (content and content in map(_in_git, ("HEAD", ""))):
        write_whole(LAST_WHOLE, content)
    elif whole := kept or committed(LOCK_FILE):
        source = f"the copy in {LAST_WHOLE}" if kept else "the committed one"
        log(f"{LOCK_FILE} is incomplete, as a killed DVC leaves it: it is {source} again")
        write_whole(LOCK_FILE, whole)
    else:
        log(f"{LOCK_FILE} is incomplete, as a killed DVC leaves it, and there is no copy: it is removed")
        LOCK_FILE.unlink()


def _in_git(commit: str) -> bytes:
    return committed(LOCK_FILE, commit=commit)


def is_whole(content: bytes, *, before: bytes) -> bool:
    """Return whether the last stage is complete and every stage of `before` that is still wanted is there."""
    stages = _stages(content)
    if not stages or not content.endswith(b"\n"):
        return False
    declared, batches = _stages(PIPELINE.read_bytes()), ["", *listed()]
    parts = {name: name.partition("@") for name in _stages(before)}
    wanted = {
        name for name, (stage, _, batch) in parts.items() if batch in batches and (stage in declared or not declared)
    }
    return wanted <= stages.keys() and _is_complete(*list(stages.items())[-1])


def _is_complete(name: str, stage: Any) -> bool:
    """Return whether the entry of a stage has its last line: the number of files of its last output, or its size."""
    try:
        last = stage["outs"][-1]
        return ("nfiles" if last["md5"].endswith(".dir") else "size") in last
    except KeyError:
        declared = _stages(PIPELINE.read_bytes()).get(name.partition("@")[0], {})
        return not declared.keys() & {"outs", "metrics", "plots"}
    except (TypeError, AttributeError):
        return False


def _stages(content: bytes) -> dict[str, Any]:
    """Return the stages of a DVC file by name; none if the content is no such file."""
    try:
        return dict(yaml.load(content, Loader=yaml.CSafeLoader)["stages"])
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError, ValueError):
        return {}
