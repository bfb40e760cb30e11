"""The log of what was put in use: `data/models/promotions.jsonl`, a line a promotion or rollback, appended and never changed."""

import json
import os
from pathlib import Path
from typing import Any

from flows.files import fsync

LOG = Path("data/models/promotions.jsonl")

Entry = dict[str, Any]


def read_log() -> list[Entry]:
    """The oldest first; a last line that a crash tore is left out. Raises ValueError where another line is damaged."""
    lines = _content().split(b"\n")
    entries = []
    for number, line in enumerate(lines, start=1):
        entry = _parse(line)
        if entry is not None:
            entries.append(entry)
        elif line and number < len(lines):
            raise ValueError(f"line {number} of {LOG} is damaged: restore it with `git checkout {LOG}`")
    return entries


def append(entry: Entry) -> None:
    """Add a line that outlasts a power loss; nothing where its version is there already. A last line that a crash tore is
    taken away, or ended, before."""
    if any(each["version"] == entry["version"] for each in read_log()):
        _mend()
        return
    _mend()
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("ab") as file:
        file.write(json.dumps(entry, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    fsync(LOG.parent)


def find(entries: list[Entry], digest: str, *, in_use: str | None) -> Entry:
    """The latest entry of the model whose SHA-256 begins with `digest`, or, where that is empty, of the one that
    the model in use was promoted over. Raises ValueError where there is none, or where several begin so."""
    if not digest:
        of_present = [each for each in entries if each["model_sha256"] == in_use and each["action"] == "promote"]
        digest = (of_present[-1]["previous"] or "") if of_present else ""
    found = {each["model_sha256"]: each for each in entries if digest and each["model_sha256"].startswith(digest)}
    if len(found) != 1:
        known = ", ".join(dict.fromkeys(each["model_sha256"][:12] for each in entries)) or "none"
        named = f"{digest[:12]!r} begins the digest of {len(found)} models" if digest else "there is no model before"
        raise ValueError(f"{named}, expected one of those that were in use ({known}): name it with --rollback")
    return next(iter(found.values()))


def _mend() -> None:
    content = _content()
    whole, newline, last = content.rpartition(b"\n")
    if last:
        mended = content + b"\n" if _parse(last) is not None else whole + newline
        with LOG.open("r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(b"\n") if len(mended) > len(content) else file.truncate(len(mended))
            file.flush()
            os.fsync(file.fileno())


def _content() -> bytes:
    return LOG.read_bytes() if LOG.exists() else b""


def _parse(line: bytes) -> Entry | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and {"version", "model_sha256"} <= set(entry) else None
