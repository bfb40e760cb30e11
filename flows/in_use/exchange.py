"""Exchange two folders in one step of the file system: a reader finds one whole folder or the other, never none."""

import ctypes
import errno
import os
import shutil
import sys
from pathlib import Path

from tasks.machine.files import fsync, remove, whole_folder

EXCHANGE = 2  # RENAME_EXCHANGE of Linux
CURRENT_FOLDER = -100  # AT_FDCWD


def put_in_place(new: Path, place: Path, *, old: Path) -> None:
    """Move `new` to `place`, and the folder that stood there to `old`. All three are on one disk.

    Some systems (macOS, NFS) cannot exchange two names, and a container cannot move a folder that came with its image:
    then `place` has no whole folder for a moment. After a kill in that moment `finish_putting` completes the move.
    """
    if not place.exists():
        new.rename(place)
    elif _exchange(new, place):
        fsync(new.parent)
        new.rename(old)
    else:
        _set_aside(place, old)
        new.rename(place)
    fsync(place.parent)
    fsync(new.parent)


def finish_putting(new: Path, place: Path, *, old: Path) -> None:
    """Complete a move that was killed after `old` was whole, and before `new` moved."""
    if old.exists() and new.exists():
        remove(place)
        new.rename(place)
        fsync(place.parent)


def _set_aside(place: Path, old: Path) -> None:
    """Move a folder; where a folder cannot move, copy it and remove it."""
    try:
        place.rename(old)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with whole_folder(old) as beside:
            shutil.copytree(place, beside, dirs_exist_ok=True)
        shutil.rmtree(place)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names, and return whether the system can."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    status = rename(CURRENT_FOLDER, os.fsencode(one), CURRENT_FOLDER, os.fsencode(other), EXCHANGE)
    return bool(status == 0)
