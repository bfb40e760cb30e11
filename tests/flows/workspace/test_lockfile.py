"""A dvc.lock that is cut off becomes the last whole one."""

import re
from pathlib import Path

import pytest

from flows.workspace.lockfile import LAST_WHOLE, keep_whole
from tests.kit.programs import git

LOCK = Path("dvc.lock")


@pytest.fixture
def whole(project, monkeypatch):
    """The bytes of a real one, which is there."""
    monkeypatch.chdir(project)
    return LOCK.read_bytes()


def places_of(whole):
    """Where to cut: before it, anywhere, between two stages, and after every line of the last one."""
    stages = [found.start() for found in re.finditer(rb"^  [a-z]", whole, re.MULTILINE)]
    lines = [found.end() for found in re.finditer(rb"\n", whole)]
    return sorted({0, *range(1, len(whole), 997), *stages, *(end for end in lines[:-1] if end > stages[-1])})


def test_wherever_it_is_cut_it_becomes_what_was_kept(whole):
    keep_whole()
    for place in places_of(whole):
        LOCK.write_bytes(whole[:place])
        keep_whole()
        assert LOCK.read_bytes() == whole, place


def test_cut_one_of_which_nothing_was_kept_becomes_what_git_has(whole):
    LOCK.write_bytes(whole[: len(whole) // 2])
    keep_whole()
    assert LOCK.read_bytes() == whole


def test_cut_one_that_nobody_has_is_removed(whole):
    git("rm", "--quiet", "--cached", "dvc.lock")
    git("commit", "--quiet", "-m", "none")
    LOCK.write_bytes(b"")
    keep_whole()
    assert not LOCK.exists()


def test_whole_one_that_changed_is_kept_as_it_is(whole):
    keep_whole()
    changed = whole.replace(b"epochs: 1", b"epochs: 9")
    assert changed != whole
    LOCK.write_bytes(changed)
    keep_whole()
    assert LOCK.read_bytes() == LAST_WHOLE.read_bytes() == changed


def test_one_without_a_batch_that_is_listed_no_more_is_whole(whole):
    """As after `git switch` to before it landed."""
    LAST_WHOLE.write_bytes(whole.replace(b"scan@first:", b"scan@second:"))
    keep_whole()
    assert LOCK.read_bytes() == whole


def test_one_without_a_stage_that_dvc_yaml_has_no_more_is_whole(whole):
    """As after `git revert` of what added it."""
    LAST_WHOLE.write_bytes(whole + b"  gone:\n    cmd: 'true'\n")
    keep_whole()
    assert LOCK.read_bytes() == LAST_WHOLE.read_bytes() == whole


def test_conflict_of_git_is_left_for_a_person(whole):
    keep_whole()
    conflict = whole.replace(b"stages:\n", b"stages:\n<<<<<<< HEAD\n")
    LOCK.write_bytes(conflict)
    keep_whole()
    assert LOCK.read_bytes() == conflict


def test_last_stage_that_makes_nothing_is_whole(whole):
    pipeline = Path("dvc.yaml")
    pipeline.write_text(
        pipeline.read_text("utf-8").replace("stages:\n", "stages:\n  tell:\n    cmd: 'true'\n"), "utf-8"
    )
    keep_whole()
    LOCK.write_bytes(whole + b"  tell:\n    cmd: 'true'\n")
    keep_whole()
    assert LOCK.read_bytes() == LAST_WHOLE.read_bytes() != whole
