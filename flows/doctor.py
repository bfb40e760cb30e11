"""Checks this machine and this checkout, and advises on every part that is missing: `graftline doctor`.

`--mend` first removes the remains of a killed program: its locks, and a dvc.lock that is cut off.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

LEAST_DISK = 5e9  # bytes: a first run on 2,000 samples takes 1 GB
LEAST_MEMORY = 2e9  # bytes: finetune takes 1 GB


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="graftline doctor", description=__doc__)
    parser.add_argument(
        "--mend", action="store_true", help="remove the locks that a killed DVC or git left, and make dvc.lock whole"
    )
    if parser.parse_args(words).mend:
        mend()
    checks: dict[str, Callable[[], str]] = {
        "Python": python, "git": git, "locks": locks, "DVC remote": dvc_remote, "weights": weights, "disk": disk,
        "memory": memory, "Prefect": prefect_server,
    }  # fmt: skip
    has_failed = False
    for about, check in checks.items():
        try:
            mark, line = "ok  ", check()
        except NoteError as error:
            mark, line = "note", str(error)
        except (OSError, ValueError) as error:
            mark, line, has_failed = "FAIL", str(error), True
        sys.stdout.write(f"{mark}  {about:10}  {line}\n")
        sys.stdout.flush()
    sys.exit(1 if has_failed else 0)


def mend() -> None:
    """Remove the remains of killed programs, and print each. It exits with one line where a run is at work here."""
    from flows.workspace.hold import only_writer

    lines: list[str] = []
    try:
        with only_writer(log=lines.append):
            pass
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    for line in lines or ["nothing was left: there is nothing to mend"]:
        sys.stdout.write(f"mend  {line}\n")


class NoteError(Exception):
    """The error of a part that is missing, but that a run on this machine does not need."""


def python() -> str:
    """Return the version. Raises ValueError for another than 3.11."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] != (3, 11):
        raise ValueError(f"this is Python {version}, expected 3.11: make setup PYTHON=/path/to/python3.11")
    return f"{version} at {sys.executable}"


def git() -> str:
    """Return that git knows this checkout and whose commits these are. Raises ValueError where it is no checkout."""
    from flows.workspace.git import has_identity, is_git_checkout

    if not shutil.which("git"):
        raise ValueError("git is not installed: install it with the system's package manager")
    if not is_git_checkout():
        raise ValueError(f"{Path.cwd()} is not a git checkout: run from the root of a clone")
    if not has_identity():
        raise NoteError(
            "runs commit as graftline; for your own name: `git config --global user.name NAME`, and user.email alike"
        )
    return "this is a checkout, and commits have a name"


def locks() -> str:
    """Return that no killed program left a lock. Raises ValueError where one did."""
    from flows.workspace.mending import left_behind

    if left := left_behind():
        raise ValueError(f"a killed program left {', '.join(left)}: `graftline doctor --mend` removes it")
    return "none was left by a killed program"


def dvc_remote() -> str:
    """Return the default remote of DVC."""
    from tasks.machine.dvc_files import dvc_settings

    settings = dvc_settings()
    name = settings.get("core", "remote", fallback="")
    if not name:
        raise NoteError(
            "none: data and models stay on this machine; `dvc remote add -d NAME URL` names a place for them"
        )
    return name


def weights() -> str:
    """Return that the weights of params.yaml are available. Raises ValueError where they are not."""
    from flows.workspace.parameters import proposal

    proposal(None)
    return "those that params.yaml names are here, or can be downloaded"


def disk() -> str:
    """Return the room on this disk. Raises ValueError for too little."""
    free = shutil.disk_usage(Path.cwd()).free
    if free < LEAST_DISK:
        raise ValueError(f"{free / 1e9:.1f} GB are free, expected {LEAST_DISK / 1e9:.0f}: make room, `dvc gc -w` helps")
    return f"{free / 1e9:.0f} GB are free"


def memory() -> str:
    """Return the memory of this machine. Raises ValueError for too little."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if total < LEAST_MEMORY:
        raise ValueError(
            f"{total / 1e9:.1f} GB, expected {LEAST_MEMORY / 1e9:.0f}: lower minibatch_size, image_size or max_tokens "
            "in params.yaml"
        )
    return f"{total / 1e9:.0f} GB"


def prefect_server() -> str:
    """Return that a Prefect server answers."""
    from flows.server.reach import check_server

    try:
        check_server()
    except ConnectionError as error:
        raise NoteError(f"{error}; a single run needs none") from None
    return "a server answers"


if __name__ == "__main__":
    main()
