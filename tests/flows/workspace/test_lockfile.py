"""A dvc.lock that is cut off becomes the last whole one."""

import re
from pathlib import Path

import pytest

from flows.workspace.lockfile import LAST_WHOLE, keep_whole
from tests.kit.programs import git

LOCK = Path("dvc.lock")


@pytest.fixture
def whole(project, monkeypatch):
    """The bytes of a real dvc.lock, which is in its place."""
    monkeypatch.chdir(project)
    return LOCK.read_bytes()


def places_of(whole):
    """Return where to cut: at the start, anywhere, between two stages, and after every line of the last stage."""
    stages = [line.start() for line in re.finditer(rb"^  [a-z]", whole, re.MULTILINE)]
    lines = [line.end() for line in re.finditer(rb"\n", whole)]
    return sorted({0, *range(1, len(whole), 997), *stages, *(end for end in lines[:-1] if end > stages[-1])})


def test_dvc_lock_that_is_cut_anywhere_becomes_the_kept_copy(whole):
    keep_whole()
    for place in places_of(whole):
        LOCK.write_bytes(whole[:place])
        keep_whole()
        assert LOCK.read_bytes() == whole, place


def test_cut_dvc_lock_without_a_kept_copy_becomes_the_committed_file(whole):
    LOCK.write_bytes(whole[: len(whole) // 2])
    keep_whole()
    assert LOCK.read_bytes() == whole


def test_cut_dvc_lock_without_copy_and_commit_is_removed(whole):
    git("rm", "--quiet", "--cached", "dvc.lock")
    git("commit", "--quiet", "-m", "none")
    LOCK.write_bytes(b"")
    keep_whole()
    assert not LOCK.exists()


def test_whole_dvc_lock_that_changed_is_kept(whole):
    keep_whole()
    changed = whole.replace(b"epochs: 1", b"epochs: 9")
    assert changed != whole
    LOCK.write_bytes(changed)
    keep_whole()
    assert LOCK.read_bytes() == LAST_WHOLE.read_bytes() == changed


def test_dvc_lock_without_a_batch_that_is_no_longer_listed_is_whole(whole):
    """`git switch` to a commit before it landed leads to this."""
    LAST_WHOLE.write_bytes(whole.replace(b"scan@first:", b"scan@second:"))
    keep_whole()
    assert LOCK.read_bytes() == whole


def test_dvc_lock_without_a_stage_that_dvc_yaml_no_longer_has_is_whole(whole):
    """`git revert` of the commit that added it leads to this."""
    LAST_WHOLE.write_bytes(whole + b"  gone:\n    cmd: 'true'\n")
    keep_whole()
    assert LOCK.read_bytes() == LAST_WHOLE.read_bytes() == whole


def test_dvc_lock_with_a_conflict_is_left_to_a_person(whole):
    keep_whole()
    conflict = whole.replace(b"stages:\n", b"stages:\n<<<<<<< HEAD\n")
    LOCK.write_bytes(conflict)
    keep_whole()
    assert LOCK.read_bytes() == conflict


def test_dvc_lock_whose_last_stage_has_no_output_is_whole(whole):
    pipeline = Path("dvc.yaml")
    pipeline.write_text(
        pipeline.read_text("utf-8").replace("stages:\n", "stages:\n  print:\n    cmd: 'true'\n"), "utf-8"
    )
    keep_whole()
    LOCK.write_bytes(whole + b"  print:\n    cmd: 'true'\n")
    keep_whole()
    assert LOCK.read_bytes() == LAST_WHOLE.read_bytes() != whole


def test_dvc_lock_that_a_person_resolved_after_a_merge_stays_as_it_is(whole):
    """Two branches each added a batch, and `--theirs` has no stage of this side's batch."""
    theirs = LOCK.read_bytes()
    mine = theirs.replace(b"scan@first:", b"scan@mine:", 1)
    LAST_WHOLE.parent.mkdir(exist_ok=True)
    LAST_WHOLE.write_bytes(mine)
    batches = Path("data/batches.yaml")
    batches.write_text("batches: [first, mine]\n", "utf-8")
    keep_whole(pytest.fail)  # it is committed
    assert LOCK.read_bytes() == LAST_WHOLE.read_bytes() == theirs
    LAST_WHOLE.write_bytes(mine)
    git("commit", "--quiet", "--allow-empty", "-m", "later")
    resolved = theirs + b"# resolved\n"
    LOCK.write_bytes(resolved)
    git("add", "dvc.lock")
    keep_whole(pytest.fail)  # it is staged
    assert LOCK.read_bytes() == resolved


def test_dvc_lock_that_is_replaced_is_named(whole):
    said = []
    keep_whole(said.append)
    LOCK.write_bytes(whole[: len(whole) // 2])
    keep_whole(said.append)
    assert said == [f"dvc.lock is incomplete, as a killed DVC leaves it: it is the copy in {LAST_WHOLE} again"]
