"""The files that a run may change and git keeps.

They are dvc.lock, the batches with their DVC files, the model that their training goes on from, and the decisions and
the anchor of the gate.
"""

from pathlib import Path

from flows.workspace import paths
from flows.workspace.lockfile import LOCK_FILE


def run_files() -> list[Path]:
    """Return the files among them that exist."""
    raw = paths.raw()
    judged = [paths.decisions(), paths.anchor()]
    start = [paths.start_record(), paths.start_pointer()]
    files = [LOCK_FILE, paths.batches(), *start, *judged, raw / ".gitignore", *sorted(raw.glob("*.dvc"))]
    return [file for file in files if file.is_file()]
