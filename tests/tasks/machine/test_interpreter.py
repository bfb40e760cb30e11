"""A command that another Python starts says which one, what it lacks, and what to do."""

import sys
from pathlib import Path

import pytest

from tests.kit.programs import run

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("module", ["tasks.scan", "flows.retrain", "flows.promote", "flows.status"])
def test_python_without_the_projects_packages_is_named_in_one_line(module):
    """Without its site-packages this Python is such a one."""
    done = run(sys.executable, "-S", "-m", module, status=1, cwd=ROOT, env={"PATH": "/usr/bin:/bin"})
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {sys.executable} (Python 3.11) has no package ")
    assert line.endswith(
        f"put the project's own Python first: `PATH={ROOT}/.venv/bin:$PATH`, or `source .venv/bin/activate`"
    )


def test_mistake_in_the_code_keeps_its_traceback():
    done = run(sys.executable, "-m", "tasks.machine.no_such_module", status=1, cwd=ROOT)
    assert "No module named tasks.machine.no_such_module" in done.stderr
