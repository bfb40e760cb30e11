"""Each decision on a held-out set is counted: the verdict that stands in, a line of `data/decisions.jsonl` out.

A decision is written down when the next one is about to be made, not when it was made: a stage that depends on what it causes
itself would never be up to date.
"""

import json
from pathlib import Path
from typing import Any

from flows.files import write_whole

DECISIONS = Path("data/decisions.jsonl")


def record(verdict_path: Path) -> None:
    """Append the verdict that stands there, unless there is none or it is written down already."""
    if not verdict_path.is_file():
        return
    verdict: dict[str, Any] = json.loads(verdict_path.read_text("utf-8"))
    line = json.dumps({name: verdict[name] for name in ("candidate", "heldout", "verdict")}, sort_keys=True)
    before = DECISIONS.read_text("utf-8").splitlines() if DECISIONS.is_file() else []
    if line not in before:
        write_whole(DECISIONS, "".join(f"{each}\n" for each in [*before, line]).encode())
