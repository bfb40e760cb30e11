"""Checks that a DVC remote on a mounted disk is there, and not only the empty folder where that disk belongs."""

import os
from pathlib import Path

from flows.workspace.git import REMOTE, is_at_remote_with
from flows.workspace.lockfile import LOCK_FILE
from tasks.machine.dvc_files import dvc_settings

PARTS_OF_A_REMOTE = ("files", "runs")  # the folders that DVC makes in a remote
FOR_MOUNTS = (Path("/mnt"), Path("/media"), Path("/net"), Path("/Volumes"), Path("/run/media"))
FSTAB = Path("/etc/fstab")


def check_mounted(remote: str) -> None:
    """Check that a remote which is a folder is there: DVC would make a missing one, below an empty mount point.

    Raises:
        ValueError: it has no folder of DVC's, though commits at git's remote name pushed data; or its disk is not
            mounted, by the system's table, or because it is missing from a place for disks.
    """
    folder = remote_folder(remote)
    if folder is None or any((folder / part).is_dir() for part in PARTS_OF_A_REMOTE):
        return
    if is_at_remote_with(LOCK_FILE):
        raise ValueError(
            f"the DVC remote {remote} is the folder {folder}, which has nothing of DVC's, though a commit at "
            f"{REMOTE} names what was pushed: mount its disk; if it is a new place, run `dvc push` once by hand"
        )
    if place := unmounted_place(folder):
        raise ValueError(
            f"the DVC remote {remote} is the folder {folder}, but the disk that {FSTAB} names for {place} is not "
            "mounted: mount it"
        )
    if not folder.exists() and is_below(folder, FOR_MOUNTS) and mount_of(folder) == Path(folder.anchor):
        raise ValueError(
            f"the DVC remote {remote} is the folder {folder}, which is missing, and no disk is mounted above it: mount "
            f"it; if no disk belongs there, `mkdir -p {folder}`"
        )


def remote_folder(remote: str) -> Path | None:
    """Return the folder of a DVC remote; None for another kind of remote."""
    settings = dvc_settings()
    names = [name for name in settings if name.strip("'") == f'remote "{remote}"']
    url = (settings[names[-1]].get("url") or "" if names else "").strip("\"' ")
    if not url or ("://" in url and not url.startswith("file://")):
        return None
    return Path(os.path.normpath(Path.cwd() / ".dvc" / url.removeprefix("file://")))


def mount_of(folder: Path) -> Path:
    """Return the nearest folder above in which a disk is mounted."""
    return next(above for above in (folder, *folder.parents) if above.is_mount())


def unmounted_place(folder: Path) -> Path | None:
    """Return the folder itself, or the one above, where the system's table has a disk that is not mounted; or None."""
    try:
        rows = [row.split() for row in FSTAB.read_text("utf-8", errors="replace").splitlines()]
    except OSError:
        return None
    places = [Path(row[1].replace("\\040", " ")) for row in rows if len(row) > 1 and not row[0].startswith("#")]
    return next((place for place in places if folder.is_relative_to(place) and not place.is_mount()), None)


def is_below(folder: Path, places: tuple[Path, ...]) -> bool:
    return any(folder.is_relative_to(place) and folder != place for place in places)
