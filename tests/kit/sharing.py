"""What the workers of pytest-xdist make once and use together."""

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


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
