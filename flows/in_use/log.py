"""The log of what was put in use: `data/models/promotions.jsonl`, a line a promotion or rollback, appended and never changed."""

import json
import os
from typing import Any

from flows.workspace import paths
from tasks.machine.files import fsync

Entry = dict[str, Any]
NEEDED = {"version", "action", "model_sha256", "dvc_out"}


def read_log() -> list[Entry]:
    """The oldest first; a last line that a crash tore is left out. Raises ValueError where another line is damaged."""
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
    """Add a line that outlasts a power loss; nothing where its version is there already. A last line that a crash tore is
    taken away, or ended, before."""
    if any(each["version"] == entry["version"] for each in read_log()):
        _mend()
        return
    _mend()
    log = paths.promotions()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(json.dumps(entry, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    fsync(log.parent)


def find(entries: list[Entry], name: str, *, in_use: dict[str, str] | None) -> Entry:
    """The latest entry of the model whose SHA-256 begins with `name`, or which has that version (v3); where the name is empty, of the
    model that was in use before the present one was promoted. `in_use` has both digests of that. Raises ValueError where there
    is none, or where several begin so."""
    if not name:
        at = [number for number, each in enumerate(entries) if each["action"] == "promote" and _is(each, in_use)]
        if not at or at[-1] == 0:
            raise ValueError(f"there is no model before: {_known(entries)}")
        return entries[at[-1] - 1]
    named = [each for each in entries if name == f"v{each['version']}"] or [
        each for each in entries if each["model_sha256"].startswith(name)
    ]
    found = {(each["model_sha256"], each.get("description_sha256")): each for each in named if not _is(each, in_use)}
    if not found and named:
        raise ValueError(
            f"{name} is in use already (`dvc checkout {paths.baseline_pointer()}` restores its files): {_known(entries)}"
        )
    if len(found) != 1:
        raise ValueError(f"{name[:64]!r} names {len(found)} models: {_known(entries)}")
    return next(iter(found.values()))


def taken_back(entries: list[Entry], model_sha256: str) -> Entry | None:
    """The rollback that took a model out of use, where nobody has put it back since."""
    about = [each for each in entries if model_sha256 in (each["model_sha256"], each.get("previous"))]
    is_out = bool(about) and about[-1]["action"] == "rollback" and about[-1]["model_sha256"] != model_sha256
    return about[-1] if is_out else None


def _is(entry: Entry, in_use: dict[str, str] | None) -> bool:
    return in_use is not None and all(entry.get(key) == digest for key, digest in in_use.items())


def _known(entries: list[Entry]) -> str:
    known = ", ".join(f"v{each['version']} ({each['model_sha256'][:12]})" for each in entries) or "none"
    return f"expected one of those that were in use, {known}"


def _mend() -> None:
    content = _content()
    whole, newline, last = content.rpartition(b"\n")
    if last:
        mended = content + b"\n" if _parse(last) is not None else whole + newline
        with paths.promotions().open("r+b") as file:
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
