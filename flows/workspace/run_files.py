"""The files that a run may change and git keeps: dvc.lock, the batches with their DVC files, the gate's decisions."""

from pathlib import Path

from flows.workspace import paths
from flows.workspace.lockfile import LOCK_FILE


def run_files() -> list[Path]:
    """Return those of them that are there."""
    raw = paths.raw()
    files = [LOCK_FILE, paths.batches(), paths.decisions(), raw / ".gitignore", *sorted(raw.glob("*.dvc"))]
    return [file for file in files if file.is_file()]
