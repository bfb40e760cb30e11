"""`--help` of every door explains each argument, at once: nothing is started, and Prefect is not imported."""

import argparse
import importlib
from pathlib import Path

import pytest

from tests.kit.programs import run_module

ROOT = Path(__file__).parents[2]
DOORS = sorted(file.stem for file in (ROOT / "flows").glob("*.py") if file.stem not in ("__init__", "__main__"))
HEAVY = ("prefect", "dvc", "pandas", "torch")


@pytest.mark.parametrize("door", DOORS)
def test_help_is_shown_before_anything_heavy_is_imported(door, tmp_path):
    """Python writes each module that it imports to stderr. The folder is no project, so that any work would fail."""
    settings = {"PYTHONPATH": str(ROOT), "PYTHONVERBOSE": "1", "PATH": "", "HOME": str(tmp_path)}
    done = run_module(f"flows.{door}", "--help", cwd=tmp_path, env=settings)
    assert done.stdout.startswith("usage: ")
    assert "show this help message" in done.stdout
    imported = {line.split()[1].strip("'") for line in done.stderr.splitlines() if line.startswith("import ")}
    assert "argparse" in imported
    assert imported.isdisjoint(HEAVY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("door", DOORS)
def test_each_argument_is_explained(door, monkeypatch):
    shown = []

    def look(parser, *_):
        shown.append(parser)
        raise SystemExit

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", look)
    with pytest.raises(SystemExit):
        importlib.import_module(f"flows.{door}").main()
    assert shown[0].description
    assert [action.dest for action in shown[0]._actions if not action.help] == []
