"""What the workers of pytest-xdist make once and use together, and copies of it."""

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.programs import git, run


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder of that name. The first worker that asks for it lets `make` fill it, while the others wait."""
    own = factory.getbasetemp()
    place = (own.parent if own.name.startswith("popen-") else own) / f"shared-{name}"
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = place.with_suffix(".made")
        if not made.exists():
            shutil.rmtree(place, ignore_errors=True)  # of a worker that failed
            place.mkdir()
            make(place)
            made.touch()
    return place


def copied(folder: Path, place: Path) -> Path:
    """Copy a folder to a place, and return the place. `cp` takes a third of Python's time for thousands of files."""
    place.parent.mkdir(parents=True, exist_ok=True)
    run("cp", "--archive", "--no-target-directory", folder, place)
    return place


def packed(workspace: Path) -> None:
    """Let git keep all objects of a workspace in one file: they are most of the files that its copies would copy."""
    git("repack", "-a", "-d", "--quiet", folder=workspace)
