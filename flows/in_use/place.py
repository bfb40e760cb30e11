"""Puts a staged bundle in the place of the model in use: tracked, registered, logged, committed and tagged.

One step decides: the exchange of two folders. A run that is killed before it has changed nothing, and the next run
removes its remains. If it is killed after it, the next run completes the other steps. Each step can be done again.
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
from flows.workspace.run_files import run_files
from tasks.machine.files import write_whole

FILES = {
    "model_sha256": "model.safetensors",
    "description_sha256": "model.json",
}  # the files of a bundle, by the log's names of their digests

Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The entry, the registry and the pointer that belong to the staged bundle once it is in use."""

    entry: Entry  # a line of the log
    registry: dict[str, Any]
    pointer: str  # the text of baseline.dvc


def digests(bundle: Path) -> dict[str, str]:
    """Return the SHA-256 (hex) of both files of a bundle, by the log's names.

    Raises:
        ValueError: a file is missing.
    """
    hashes = {}
    for key, name in FILES.items():
        try:
            with (bundle / name).open("rb") as file:
                hashes[key] = hashlib.file_digest(file, "sha256").hexdigest()
        except (FileNotFoundError, NotADirectoryError):
            raise ValueError(f"{bundle / name} is missing: run `dvc repro`, or `dvc checkout`") from None
    return hashes


def recorded() -> dict[str, str] | None:
    """Return the recorded digests of the model in use; None if there is none yet."""
    record = read_object(paths.baseline_record(), advice="restore it with git")
    return {key: str(record.get(key)) for key in FILES} if record else None


def is_at(bundle: Path, expected: Mapping[str, Any]) -> bool:
    """Return whether the folder is a whole bundle with these digests."""
    try:
        hashes = digests(bundle)
    except ValueError:
        return False
    return all(expected[key] == digest for key, digest in hashes.items())


def staged() -> Path:
    """Return the folder in which a bundle waits to be put in use."""
    return paths.promotion() / paths.baseline().name


def staged_pointer() -> Path:
    """Return the DVC file of the staged bundle."""
    return paths.promotion() / paths.baseline_pointer().name


def put_in_use(plan: Plan, *, log: Log) -> None:
    """Put the staged bundle in use. It is whole, and in DVC's cache.

    Raises:
        ValueError: git refuses the record; the next run tries again.
    """
    os.sync()  # DVC does not: its cache must be on the disk before the step that decides
    write_whole(_plan_file(), json.dumps(asdict(plan)).encode())
    put_in_place(staged(), paths.baseline(), old=_old())
    _settle(plan, log=log)


def settle_unfinished(log: Log) -> bool:
    """Complete the promotion of a killed run, or remove its remains; the model in use stays as it is.

    Return whether a promotion was completed.
    """
    plan = _read_plan()
    if plan is not None:
        interrupted = f"the interrupted {plan.entry['action']} of {plan.entry['model_sha256'][:12]}"
        finish_putting(staged(), paths.baseline(), old=_old())
        if is_at(paths.baseline(), plan.entry):
            log(f"completing {interrupted}")
            _settle(plan, log=log)
            return True
        log(f"removing {interrupted}")
    clear()
    return False


def clear() -> None:
    """Remove the folder of the promotion, the plan first: without a plan no run completes anything."""
    _plan_file().unlink(missing_ok=True)
    shutil.rmtree(paths.promotion(), ignore_errors=True)


def as_json(content: dict[str, Any]) -> bytes:
    """Return the content as sorted, indented JSON."""
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _settle(plan: Plan, *, log: Log) -> None:
    """Write the record, the registry and the log for the model in its place."""
    write_whole(paths.baseline_pointer(), plan.pointer.encode())
    write_whole(paths.class_registry(), as_json(plan.registry))
    write_whole(paths.baseline_record(), as_json({key: plan.entry[key] for key in FILES}))
    append(plan.entry)
    try:
        record(plan.entry, log=log)
    except ValueError as error:
        raise ValueError(
            f"{plan.entry['model_sha256'][:12]} is in use, but {error}: correct that, then run "
            "`python -m flows.promote`, which completes the record and does nothing else"
        ) from None
    clear()


def record(entry: Entry, *, log: Log) -> None:
    """Commit and tag the promotion, as far as git lacks them: a clone may have the commit and not the tag.

    The commit of a promotion includes the records of the model's training and judgement: dvc.lock, the batches, the
    decisions of the gate.

    Raises:
        ValueError: git refuses.
    """
    made_by = run_files() if entry["action"] == "promote" else []
    message = f"{entry['action']} {entry['model_sha256'][:12]}: {entry['why']}".removesuffix(": None")
    files = [paths.baseline_pointer(), paths.class_registry(), paths.baseline_record(), paths.promotions(), *made_by]
    record_in_git(files, message=message, tag=entry["tag"], log=log)


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
