"""No module of ours hides one of Python's or of a package, even if its folder is on Python's path."""

import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# a stage: `python -m tasks.validate`. configobj, which DVC needs, installs a module of this name; tasks/ is never on
# the path
KEPT = {"tasks": {"validate"}}


def names_at_the_root(room):
    """The modules and packages that would be importable by their own names if the folder were on Python's path."""
    places = [place for place in (ROOT / room).iterdir() if place.suffix == ".py" or any(place.glob("*.py"))]
    return {place.stem for place in places} - {"__init__", "__main__"}


@pytest.mark.parametrize("room", ["flows", "tasks"])
def test_no_name_at_the_root_is_that_of_a_standard_or_an_installed_module(room):
    names = names_at_the_root(room)
    assert names
    assert names & set(sys.stdlib_module_names) == set()
    assert names & set(packages_distributions()) == KEPT.get(room, set())
