"""The log of models in use, `promotions.jsonl`: a line for each promotion or rollback. Lines are only appended."""

import json
import os
from typing import Any

from flows.workspace import paths
from tasks.machine.files import fsync, no_link

Entry = dict[str, Any]
NEEDED = {"version", "action", "model_sha256", "dvc_out"}


def read_log() -> list[Entry]:
    """Return the entries, the oldest first, without a last line that a crash tore.

    Raises:
        ValueError: another line is damaged.
    """
    file = paths.promotions()
    lines = _content().split(b"\n")
    entries = []
    for number, line in enumerate(lines, start=1):
        entry = _parse(line)
        if entry is not None:
            entries.append(entry)
        elif line and number < len(lines):
            raise ValueError(f"line {number} of {file} is damaged: restore it with `git checkout {file}`")
    return entries


def append(entry: Entry) -> None:
    """Add a line that outlasts a power loss, unless its version is there already.

    A last line that a crash tore is removed before, or completed.
    """
    is_there = any(earlier["version"] == entry["version"] for earlier in read_log())
    _mend()
    if is_there:
        return
    log = paths.promotions()
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab", opener=no_link) as file:
        file.write(json.dumps(entry, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    fsync(log.parent)


def find(entries: list[Entry], name: str, *, in_use: dict[str, str] | None) -> Entry:
    """Return the latest entry of a model.

    Args:
        name: a version such as v3, or the beginning of a SHA-256. Empty: the model that was in use before the present
            one was promoted.
        in_use: both digests of the present model.

    Raises:
        ValueError: no model has the name, several have it, or the one that has it is in use.
    """
    if not name:
        promoted = [
            number for number, entry in enumerate(entries) if entry["action"] == "promote" and _is(entry, in_use)
        ]
        if not promoted or promoted[-1] == 0:
            known = f" ({_known(entries)})" if entries else ": none was ever in use"
            raise ValueError(f"there is no earlier model to go back to{known}")
        return entries[promoted[-1] - 1]
    named = [entry for entry in entries if name == f"v{entry['version']}"] or [
        entry for entry in entries if entry["model_sha256"].startswith(name)
    ]
    models = {
        (entry["model_sha256"], entry.get("description_sha256")): entry for entry in named if not _is(entry, in_use)
    }
    if not models and named:
        raise ValueError(
            f"{name} is in use already (`dvc checkout {paths.baseline_pointer()}` restores its files): "
            f"{_known(entries)}"
        )
    if len(models) != 1:
        raise ValueError(f"{name[:64]!r} names {len(models)} models: {_known(entries)}")
    return next(iter(models.values()))


def taken_back(entries: list[Entry], model_sha256: str) -> Entry | None:
    """Return the rollback that took a model out of use, unless a person has put it back since."""
    about = [entry for entry in entries if model_sha256 in (entry["model_sha256"], entry.get("previous"))]
    is_out = bool(about) and about[-1]["action"] == "rollback" and about[-1]["model_sha256"] != model_sha256
    return about[-1] if is_out else None


def _is(entry: Entry, in_use: dict[str, str] | None) -> bool:
    return in_use is not None and all(entry.get(key) == digest for key, digest in in_use.items())


def _known(entries: list[Entry]) -> str:
    known = ", ".join(f"v{entry['version']} ({entry['model_sha256'][:12]})" for entry in entries) or "none"
    return f"expected one of those that were in use, {known}"


def _mend() -> None:
    """Complete a last line that only lacks its end, or remove it."""
    content = _content()
    whole, newline, last = content.rpartition(b"\n")
    if last:
        mended = content + b"\n" if _parse(last) is not None else whole + newline
        with open(paths.promotions(), "r+b", opener=no_link) as file:
            file.seek(0, os.SEEK_END)
            file.write(b"\n") if len(mended) > len(content) else file.truncate(len(mended))
            file.flush()
            os.fsync(file.fileno())


def _content() -> bytes:
    log = paths.promotions()
    return log.read_bytes() if log.exists() else b""


def _parse(line: bytes) -> Entry | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and set(entry) >= NEEDED else None
