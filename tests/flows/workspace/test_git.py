"""Commits and pushes of a run."""

import os
import signal
from pathlib import Path

import pytest

from flows.workspace.git import push_to_git, record_in_git
from flows.workspace.hold import only_writer
from tests.kit.programs import git


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
