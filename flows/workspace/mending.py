"""Removes the locks that a killed DVC or git left, which would stop every later one.

A lock goes only if nothing that could hold it is at work. Only the process that holds the workspace may call this.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from flows.workspace.git import lock_files, working_folders
from tasks.machine.dvc_files import dvc_settings
from tasks.machine.files import write_whole

TMP = Path(".dvc/tmp")
LIST = TMP / "rwlock"  # which paths each DVC at work reads and writes
GUARD = TMP / "rwlock.lock"  # held by the DVC that changes the list
HELD_BY_LINK = (TMP / "lock", GUARD)  # under core.hardlink_lock their existence is the lock
LEAST_SECONDS = 2.0  # a lock that is younger may be that of a program which this user cannot see

Log = Callable[[str], None]


def mend(log: Log) -> None:
    """Remove the locks that killed programs left, and log each."""
    for lock in left_by_dvc():
        lock.unlink(missing_ok=True)
        log(f"removed {lock}, which a killed DVC left")
    drop_dead_locks(log)
    for lock in left_by_git():
        lock.unlink(missing_ok=True)
        log(f"removed {lock}, which a killed git left")


def left_behind() -> list[str]:
    """Return the locks that `mend` would remove."""
    locks = [*left_by_dvc(), *left_by_git()]
    return [str(lock) for lock in locks] + ([str(LIST)] if _is_torn() else [])


def left_by_git() -> list[Path]:
    """Return the locks of this repository's git that no git holds."""
    locks = lock_files()
    return _left(locks, program="git", folders=working_folders()) if locks else []


def left_by_dvc() -> list[Path]:
    """Return the locks that DVC made by a link and does not hold; where it locks by flock it leaves none."""
    if dvc_settings().get("core", "hardlink_lock", fallback="").strip("\"' ").lower() not in ("true", "yes", "1", "on"):
        return []
    locks = [lock for lock in HELD_BY_LINK if lock.is_file()]
    return [lock for lock in _left(locks, program="dvc", folders=[Path.cwd()]) if not _is_flocked(lock)]


def drop_dead_locks(log: Log) -> None:
    """Remove the locks of a killed DVC from DVC's list.

    DVC writes the list in place: a torn one stops every other DVC. A lock of a dead process can name a number that
    another process has by now, as after a restart of the machine: then every other DVC would wait for that process for
    ever.
    """
    with suppress(BlockingIOError, FileNotFoundError), _guarded():
        try:
            locks = {"read": {}, "write": {}} | json.loads(LIST.read_text("utf-8"))
            reads = {path: [info for info in infos if _is_at_work(info)] for path, infos in locks["read"].items()}
            writes = {path: info for path, info in locks["write"].items() if _is_at_work(info)}
        except (ValueError, TypeError, KeyError, AttributeError):
            LIST.unlink()
            log(f"removed {LIST}, which a killed DVC left incomplete")
        else:
            if (alive := {"read": reads, "write": writes}) != locks:
                write_whole(LIST, json.dumps(alive).encode())


@contextmanager
def _guarded() -> Iterator[None]:
    """Keep DVC from changing its list. The file of the guard is DVC's, and is never made here.

    Raises:
        BlockingIOError: a DVC changes the list now.
    """
    if not GUARD.exists():  # no DVC changes the list, or ever did
        yield
        return
    if _is_made_by_link(GUARD):
        raise BlockingIOError(f"{GUARD} is held")
    with GUARD.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _is_made_by_link(lock: Path) -> bool:
    """Return whether DVC made the lock under core.hardlink_lock: then it holds the path of another file."""
    return lock.read_text("utf-8", errors="replace").startswith("/")


def _is_torn() -> bool:
    try:
        with _guarded():
            return not isinstance(json.loads(LIST.read_text("utf-8")), dict)
    except ValueError:
        return True
    except OSError:  # there is none, or a DVC is at work on it
        return False


def _is_flocked(lock: Path) -> bool:
    try:
        with lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _is_at_work(info: dict[str, Any]) -> bool:
    """Return whether the process of that number is the one that DVC noted: its command ends in the same word."""
    try:
        command = Path(f"/proc/{info['pid']}/cmdline").read_text("utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return not Path("/proc/self/cmdline").exists()  # a system without /proc: DVC decides
    except PermissionError:
        return True
    return command.rstrip("\0").endswith(info["cmd"].split(" ")[-1])


def _left(locks: list[Path], *, program: str, folders: list[Path]) -> list[Path]:
    """Return the locks that stay the same for a while, during which no process is seen that may hold them.

    Args:
        program: the one that takes such locks, in one of these folders.
    """
    before = _stamps(locks)
    if not before:
        return []
    youngest = max(made for _, made in before.values())
    time.sleep(min(max(youngest + LEAST_SECONDS - time.time(), 0.0), LEAST_SECONDS))
    if _may_be_at_work(program, folders, {str(lock.absolute()) for lock in before}):
        return []
    return sorted(lock for lock, stamp in _stamps(locks).items() if before.get(lock) == stamp)


def _stamps(locks: list[Path]) -> dict[Path, tuple[int, float]]:
    """Return the number of each lock's file, and when it was made or last changed, in seconds."""
    stamps = {}
    for lock in locks:
        with suppress(FileNotFoundError):
            status = lock.stat()
            stamps[lock] = (status.st_ino, status.st_ctime)
    return stamps


def _may_be_at_work(program: str, folders: list[Path], locks: set[str]) -> bool:
    """Return whether a process is, or may be, that program in one of the folders, or has one of the locks open."""
    processes = [entry for entry in Path("/proc").glob("[0-9]*") if entry.name != str(os.getpid())]
    if not processes:  # a system without /proc: this cannot be known
        return True
    return any(_runs(process, program, folders) or _has_open(process, locks) for process in processes)


def _runs(process: Path, program: str, folders: list[Path]) -> bool:
    try:
        words = (process / "cmdline").read_text("utf-8", errors="replace").split("\0")[:6]
        if not any(Path(word).name == program or Path(word).name.startswith(f"{program}-") for word in words if word):
            return False
        place = (process / "cwd").readlink()
    except PermissionError:
        return True
    except OSError:  # it has ended
        return False
    return any(place.is_relative_to(folder) for folder in folders)


def _has_open(process: Path, locks: set[str]) -> bool:
    try:
        with os.scandir(process / "fd") as links:  # pathlib takes longer, and there are thousands
            return any(os.readlink(link) in locks for link in links)  # noqa: PTH115
    except OSError:  # it has ended, or is another user's
        return False
