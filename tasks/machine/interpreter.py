"""Reports in a line which package is missing where a command starts with another Python than that of `make setup`."""

import sys
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]
OURS = ("benchmarks", "flows", "tasks", "tests")
OLDEST = (3, 11)


def explain_missing_packages() -> None:
    """Let `python -m` end with one line where its Python is too old, or lacks a package.

    It does nothing for other programs, such as a notebook.
    """
    if sys.argv[:1] != ["-m"]:  # Python still looks for the module
        return
    if sys.version_info[:2] < OLDEST:
        sys.exit("error: " + _advice("is too old"))
    sys.excepthook = _show


def _show(kind: "type[BaseException]", error: BaseException, traceback: "TracebackType | None") -> None:
    name = (getattr(error, "name", None) or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and name and name not in OURS:
        sys.stderr.write("error: " + _advice(f"has no package {name}") + "\n")
    else:
        sys.__excepthook__(kind, error, traceback)


def _advice(problem: str) -> str:
    version = ".".join(map(str, sys.version_info[:2]))
    programs = ROOT / ".venv" / "bin"
    setup = "" if programs.is_dir() else "`make setup`, then "
    return (
        f"{sys.executable} (Python {version}) {problem}: {setup}put the project's own Python first: "
        f"`PATH={programs}:$PATH`, or `source .venv/bin/activate`"
    )
