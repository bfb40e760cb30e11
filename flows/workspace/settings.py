"""DVC's own settings, read without starting DVC from the files that `dvc config` and `dvc remote modify` write."""

import configparser
from pathlib import Path

FILES = ("~/.config/dvc/config", ".dvc/config", ".dvc/config.local")  # a later file overrides an earlier one


def dvc_settings() -> configparser.RawConfigParser:
    """Return the settings by section; a damaged file is skipped."""
    settings = configparser.RawConfigParser(strict=False, allow_no_value=True)
    for name in FILES:
        try:
            settings.read(Path(name).expanduser(), encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # DVC itself reports what is wrong with it
    return settings
