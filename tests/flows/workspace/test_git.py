"""Commits and pushes of a run."""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from flows.in_use.promotion import name_in_tags
from flows.workspace.git import changed_files, differing, fetch_lacking, push_to_git, record_in_git
from flows.workspace.hold import only_writer
from tests.kit.programs import git, run
from tests.kit.sharing import copied

FIND_MODEL = """
from dvc.repo import Repo
print(Repo(".").artifacts.get_rev("svc:classifier"))
"""


def test_automatic_cleaning_of_git_does_not_hold_the_workspace_after_the_run(workspace):
    pictures = Path("pictures")
    pictures.mkdir()
    for number in range(2000):  # so many objects that git packs them
        (pictures / f"{number}").write_text(f"{number}\n" * 200, "utf-8")
    git("config", "gc.auto", "1")
    with only_writer():
        record_in_git([pictures], message="many", log=lambda line: None)
    with only_writer():
        packs = list(Path(".git/objects/pack").glob("*.pack"))
    assert packs


def test_helper_that_a_push_leaves_behind_does_not_hold_the_workspace(workspace, tmp_path):
    """Git's own helper keeps a password for a while."""
    for command in (
        ["init", "--quiet", "--bare", str(tmp_path / "hub.git")],
        ["remote", "add", "origin", str(tmp_path / "hub.git")],
    ):
        git(*command)
    helper = tmp_path / "receive-pack"
    helper.write_text(
        f"#!/bin/sh\nsleep 600 < /dev/null > /dev/null 2>&1 &\necho $! > {tmp_path}/helper\n"
        'exec git-receive-pack "$@"\n',
        "utf-8",
    )
    helper.chmod(0o755)
    git("config", "remote.origin.receivepack", helper)
    with only_writer():
        assert push_to_git(None) == "pushed git to main"
    try:
        with only_writer():
            pass
    finally:
        os.kill(int((tmp_path / "helper").read_text("utf-8")), signal.SIGKILL)


def test_checkout_that_git_does_not_read_is_refused(workspace, monkeypatch):
    """Root's git does not read the checkout of the service's user: a promotion would get no commit."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(ValueError, match=r"git does not read this checkout .*dubious ownership"):
        record_in_git([Path("params.yaml")], message="none", log=lambda line: None)


@pytest.fixture
def below(workspace, tmp_path, monkeypatch):
    """A project in the folder `svc` of a larger repository. The test runs in it."""
    larger = tmp_path / "larger"
    shutil.rmtree(workspace / ".git")
    copied(workspace, larger / "svc")
    (larger / "other.txt").write_text("other", "utf-8")
    git("init", "--quiet", larger)
    git("add", "--all", folder=larger)
    git("commit", "--quiet", "-m", "first", folder=larger)
    monkeypatch.chdir(larger / "svc")
    return larger / "svc"


def test_project_in_a_folder_of_a_larger_repository_sees_its_own_files_alone(below):
    (below / "params.yaml").write_text("changed", "utf-8")
    (below.parent / "other.txt").write_text("changed", "utf-8")
    assert differing([Path("params.yaml")]) == ["params.yaml"]
    git("commit", "--quiet", "--all", "-m", "second")
    assert changed_files("HEAD~1") == ["params.yaml"]


def test_tag_of_a_project_in_a_folder_is_the_one_by_which_dvc_finds_the_model(below):
    assert name_in_tags() == "svc=classifier"
    record_in_git([Path("params.yaml")], message="none", tag=f"{name_in_tags()}@v1.0.0", log=print)
    found = run(sys.executable, "-c", FIND_MODEL).stdout
    assert found.split() == [git("rev-parse", "HEAD").strip()]


def test_files_of_an_earlier_commit_that_a_clone_lacks_are_fetched(workspace, tmp_path, monkeypatch):
    earlier = git("rev-parse", "HEAD").strip()
    for name in ("params.yaml", "dvc.yaml"):
        Path(name).write_text("changed", "utf-8")
    git("commit", "--quiet", "--all", "-m", "second")
    git("config", "uploadpack.allowFilter", "true")
    git("config", "uploadpack.allowAnySHA1InWant", "true")
    git("clone", "--quiet", "--filter=blob:none", f"file://{workspace}", tmp_path / "clone", folder=tmp_path)
    monkeypatch.chdir(tmp_path / "clone")
    assert "?" in (lacking := git("rev-list", "--objects", "--no-walk", "--missing=print", earlier))
    fetch_lacking(earlier)
    assert "?" not in git("rev-list", "--objects", "--no-walk", "--missing=print", earlier), lacking
