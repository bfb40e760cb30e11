"""The model in use: a staged bundle in; that bundle in its place, tracked, registered, logged, committed and tagged, out.

One step decides, the exchange of two folders. A run that is killed before it has changed nothing, and the next takes away what it
left; after it, the next run does what remains. Each thing that is done can be done again.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows.in_use.exchange import finish_putting, put_in_place
from flows.in_use.log import Entry, append
from flows.in_use.verdict import read_object
from flows.workspace import paths
from flows.workspace.git import record_in_git
from flows.workspace.lockfile import LOCK_FILE
from tasks.machine.files import write_whole

FILES = {
    "model_sha256": "model.safetensors",
    "description_sha256": "model.json",
}  # of a bundle, by what the log calls their digests

Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be true once the staged bundle is in use."""

    entry: Entry  # of the log
    registry: dict[str, Any]
    pointer: str  # the text of baseline.dvc


def digests(bundle: Path) -> dict[str, str]:
    """SHA-256 (hex) of both files of a bundle, as the log has them. Raises ValueError where one is missing."""
    found = {}
    for key, name in FILES.items():
        try:
            with (bundle / name).open("rb") as file:
                found[key] = hashlib.file_digest(file, "sha256").hexdigest()
        except (FileNotFoundError, NotADirectoryError):
            raise ValueError(f"{bundle / name} is missing: run `dvc repro`, or `dvc checkout`") from None
    return found


def recorded() -> dict[str, str] | None:
    """The digests of the model in use, as the record has them; None where there is none yet."""
    found = read_object(paths.baseline_record(), advice="restore it with git")
    return {key: str(found.get(key)) for key in FILES} if found else None


def is_at(bundle: Path, expected: Mapping[str, Any]) -> bool:
    """Whether a whole bundle stands there, and is the one with these digests."""
    try:
        found = digests(bundle)
    except ValueError:
        return False
    return all(expected[key] == digest for key, digest in found.items())


def staged() -> Path:
    """Return the folder in which a bundle waits to be put in use."""
    return paths.promotion() / paths.baseline().name


def staged_pointer() -> Path:
    """Return DVC's file of the staged bundle."""
    return paths.promotion() / paths.baseline_pointer().name


def put_in_use(plan: Plan, *, log: Log) -> None:
    """The staged bundle is whole, and DVC has it in its cache. Raises ValueError where git does not take the record; the next
    run tries again."""
    os.sync()  # DVC does not: its cache is on the disk before anything is decided
    write_whole(_plan_file(), json.dumps(asdict(plan)).encode())
    put_in_place(staged(), paths.baseline(), old=_old())
    _settle(plan, log=log)


def settle_unfinished(log: Log) -> bool:
    """Finish what a killed run began, or take away what it left, whichever leaves the model in use as it is; whether
    something was finished."""
    plan = _read_plan()
    if plan is not None:
        finish_putting(staged(), paths.baseline(), old=_old())
        if is_at(paths.baseline(), plan.entry):
            log(f"finishing the {plan.entry['action']} of {plan.entry['model_sha256'][:12]}, which was interrupted")
            _settle(plan, log=log)
            return True
        log(f"undone: the {plan.entry['action']} of {plan.entry['model_sha256'][:12]}, which was interrupted")
    clear()
    return False


def clear() -> None:
    """The plan goes first: without it nothing is finished any more."""
    _plan_file().unlink(missing_ok=True)
    shutil.rmtree(paths.promotion(), ignore_errors=True)


def as_json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _settle(plan: Plan, *, log: Log) -> None:
    """Write down all that follows from the model in its place."""
    write_whole(paths.baseline_pointer(), plan.pointer.encode())
    write_whole(paths.class_registry(), as_json(plan.registry))
    write_whole(paths.baseline_record(), as_json({key: plan.entry[key] for key in FILES}))
    append(plan.entry)
    try:
        record(plan.entry, log=log)
    except ValueError as error:
        raise ValueError(
            f"{plan.entry['model_sha256'][:12]} is in use, but {error}: put that right, then run `python -m flows.promote`, "
            "which finishes the record and does nothing else"
        ) from None
    clear()


def record(entry: Entry, *, log: Log) -> None:
    """Its commit, with the dvc.lock that says how it was made, and its tag, as far as git lacks them: a clone may have the one alone.
    Raises ValueError where git refuses."""
    made = [LOCK_FILE] if entry["action"] == "promote" and LOCK_FILE.is_file() else []
    message = f"{entry['action']} {entry['model_sha256'][:12]}: {entry['why']}".removesuffix(": None")
    written = [paths.baseline_pointer(), paths.class_registry(), paths.baseline_record(), paths.promotions(), *made]
    record_in_git(written, message=message, tag=entry["tag"], log=log)


def _old() -> Path:
    return paths.promotion() / "old"


def _plan_file() -> Path:
    return paths.promotion() / "plan.json"


def _read_plan() -> Plan | None:
    try:
        return Plan(**json.loads(_plan_file().read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise ValueError(f"{_plan_file()} is of another version: remove {paths.promotion()}, then run again") from None
