"""Watch the answers of the model in use for drift: the verb `watch` compares, and each drift is reported once.

The findings lie in a folder beside the list of batches.
"""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.in_use.verdict import read_object
from flows.workspace import paths
from tasks.machine.files import write_whole

REPORTED = Path(".dvc/tmp/graftline-drift.json")  # keys of the windows that were reported, and of the judged files
MOST_REPORTED, MOST_FILES = 10_000, 100_000  # keys that are kept; a window that is older is no news
ADVICE = "remove it, and watch again"
Found = dict[str, Any]


def compare(
    predictions: Sequence[str],
    *,
    labels: Sequence[str],
    reference: str | None,
    window: int,
    every: str | None,
    false_alarms: float,
    out: Path | None = None,
) -> int:
    """Run `tasks.watch` for the model in use, and return its exit status. The arguments are those of the flow `watch`.

    Args:
        out: the folder that is written; None is the usual one.

    Raises:
        ValueError: no model is in use.
    """
    bundle = paths.baseline()
    if not bundle.is_dir():
        raise ValueError("no model is in use, whose answers could drift: `graftline promote` puts a candidate in use")
    command = [sys.executable, "-m", "tasks.watch", *paths.watching(), "--bundle", str(bundle)]
    command += ["--out", str(out or paths.watched()), f"--window={window}", f"--false-alarms={false_alarms}"]
    command += [f"--labels={file}" for file in labels]
    command += [f"--reference={reference}"] if reference else []
    command += [f"--every={every}"] if every else []
    if moved := os.environ.get("GRAFTLINE_STORE"):
        command += ["--store", moved]
    return subprocess.run([*command, "--", *predictions], check=False).returncode


def news() -> tuple[Found, list[Found]]:
    """Return the findings of the last watch, and the drifted windows in them that were not reported.

    An open window is not reported yet: it would be judged at each watch, which raises more false alarms. So would
    answers that were judged before, in other windows: windows of a count move where watch.json, which names their
    beginning, is another one or missing.
    """
    found = read_object(paths.watched() / "watch.json", advice=ADVICE)
    reported = _reported()
    known, judged = set(reported["windows"]), set(reported["files"])
    drifted = [window for window in found["windows"] if window["is_drifted"] and not window["is_open"]]
    return found, [one for one in drifted if one["key"] not in known and not judged.issuperset(one["files"])]


def mark_as_reported(found: Found, drifted: Sequence[Found]) -> None:
    """Remember drifted windows, and the files of which every answer was judged: no later watch reports them again."""
    reported = _reported()
    windows = [*reported["windows"], *(window["key"] for window in drifted)]
    of_open, of_closed = (
        {key for window in found["windows"] if window["is_open"] is is_open for key in window["files"]}
        for is_open in (True, False)
    )
    files = [*reported["files"], *sorted(of_closed - of_open - set(reported["files"]))]
    REPORTED.parent.mkdir(parents=True, exist_ok=True)
    write_whole(REPORTED, json.dumps({"windows": windows[-MOST_REPORTED:], "files": files[-MOST_FILES:]}).encode())


def event_id(windows: Sequence[Found]) -> uuid.UUID:
    """Return the identifier of the event about these windows: the same one, however often it is sent."""
    return uuid.uuid5(uuid.NAMESPACE_OID, " ".join(window["key"] for window in windows))


def _reported() -> dict[str, list[str]]:
    return {"windows": [], "files": []} | (read_object(REPORTED, advice=ADVICE) if REPORTED.is_file() else {})
