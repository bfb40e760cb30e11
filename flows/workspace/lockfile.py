"""dvc.lock, which DVC writes in place, in; a whole one out. A kill meanwhile leaves it empty or cut off, and DVC does not read it then."""

from pathlib import Path
from typing import Any

import yaml

from flows.workspace.batches import listed
from flows.workspace.git import committed
from flows.workspace.paths import PIPELINE
from tasks.machine.files import write_whole

LOCK_FILE = Path("dvc.lock")
LAST_WHOLE = Path(".dvc/tmp/graftline-dvc.lock")
CONFLICT = b"\n<<<<<<< "  # of git's, which a person decides


def keep_whole() -> None:
    """See to it that dvc.lock is whole, and keep a copy of it. One that is cut off becomes what it was when it was last kept, or what
    git has of it; DVC's run cache has what was finished since. For who holds this workspace.

    Raises:
        ValueError: data/batches.yaml is wrong.
    """
    try:
        content = LOCK_FILE.read_bytes()
    except FileNotFoundError:
        return
    kept = LAST_WHOLE.read_bytes() if LAST_WHOLE.is_file() else None
    if content == kept or CONFLICT in content:
        return
    if is_whole(content, before=kept or b""):
        write_whole(LAST_WHOLE, content)
    elif whole := kept or committed(LOCK_FILE):
        write_whole(LOCK_FILE, whole)
    else:
        LOCK_FILE.unlink()


def is_whole(content: bytes, *, before: bytes) -> bool:
    """Whether it goes on to the end of what its last stage made, and has all the stages that it had `before` and that are still
    wanted."""
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
    """What it made is its last part: of a folder the number of files is the last line, else the size."""
    try:
        last = stage["outs"][-1]
        return ("nfiles" if last["md5"].endswith(".dir") else "size") in last
    except KeyError:
        declared = _stages(PIPELINE.read_bytes()).get(name.partition("@")[0], {})
        return not declared.keys() & {"outs", "metrics", "plots"}
    except (TypeError, AttributeError):
        return False


def _stages(content: bytes) -> dict[str, Any]:
    """By name; none where it is no such file."""
    try:
        return dict(yaml.load(content, Loader=yaml.CSafeLoader)["stages"])
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError, ValueError):
        return {}
