"""DVC's own settings and the place of its cache, read without starting DVC."""

import configparser
import os
import re
from functools import lru_cache
from pathlib import Path

OBJECT = re.compile(r"(?:files/md5/)?[0-9a-f]{2}/[0-9a-f]{30}")  # below the cache; DVC 2 had no folders around it


def dvc_settings(project: Path = Path()) -> configparser.RawConfigParser:
    """Return the settings of a project by section, as DVC sees them; a damaged file is skipped.

    A path that a file gives relative to itself becomes absolute.
    """
    settings = configparser.RawConfigParser(strict=False, allow_no_value=True)
    for file in _files(project):
        try:
            settings.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # DVC itself reports the damage
        cache = settings.get("cache", "dir", fallback="")
        if cache:
            named = os.path.expanduser(cache.strip("\"' "))  # noqa: PTH111  without a home it stays as it is
            settings["cache"]["dir"] = str(file.parent.absolute() / named)
    return settings


def is_cached(target: Path, *, root: Path) -> bool:
    """Return whether a file lies in the cache of the DVC project that `root` lies in.

    DVC puts links to such files where `cache.type` is symlink. A project inside `root` does not count: the sender of
    `root` could name any folder its cache.

    Args:
        target: the file, by a path without links.
    """
    for folder in root.absolute().parents:
        if (folder / ".dvc").is_dir():
            cache = _cache(folder, tuple(map(_stamp, _files(folder))))
            return target.is_relative_to(cache) and bool(OBJECT.fullmatch(target.relative_to(cache).as_posix()))
    return False


@lru_cache(maxsize=16)
def _cache(project: Path, stamps: tuple[int, ...]) -> Path:
    """Return the folder of the cache. `stamps` are of the settings, so that changed settings are read again."""
    return Path(dvc_settings(project).get("cache", "dir", fallback="") or project / ".dvc/cache").resolve()


def _files(project: Path) -> tuple[Path, ...]:
    """Return the places of DVC's settings; a later file overrides an earlier one."""
    system = os.environ.get("DVC_SYSTEM_CONFIG_DIR") or "/etc/xdg/dvc"
    user = os.environ.get("DVC_GLOBAL_CONFIG_DIR") or f"{os.environ.get('XDG_CONFIG_HOME') or '~/.config'}/dvc"
    return (
        Path(system) / "config",
        Path(os.path.expanduser(user)) / "config",  # noqa: PTH111  without a home it stays as it is
        project / ".dvc/config",
        project / ".dvc/config.local",
    )


def _stamp(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
