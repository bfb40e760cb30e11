"""The files that a run may change and git keeps.

They are dvc.lock, the batches with their DVC files, and the decisions and the anchor of the gate.
"""

from pathlib import Path

from flows.workspace import paths
from flows.workspace.lockfile import LOCK_FILE


def run_files() -> list[Path]:
    """Return those of them that are there."""
    raw = paths.raw()
    judged = [paths.decisions(), paths.anchor()]
    files = [LOCK_FILE, paths.batches(), *judged, raw / ".gitignore", *sorted(raw.glob("*.dvc"))]
    return [file for file in files if file.is_file()]
