"""DVC's own settings: its files in, as `dvc config` and `dvc remote modify` write them; what they say, read without starting DVC, out."""

import configparser
from pathlib import Path

FILES = ("~/.config/dvc/config", ".dvc/config", ".dvc/config.local")  # a later one has its way


def dvc_settings() -> configparser.RawConfigParser:
    settings = configparser.RawConfigParser(strict=False, allow_no_value=True)
    for name in FILES:
        try:
            settings.read(Path(name).expanduser(), encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # DVC itself says what is wrong with it
    return settings
