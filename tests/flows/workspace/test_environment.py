"""Programs start with what they need, and without what belongs to another repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.workspace.environment import DROPPED, environment, past_the_proxy
from flows.workspace.git import record_in_git
from tests.kit.programs import git, run

ROOT = Path(__file__).parents[3]
LOCAL = subprocess.run(["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True, check=True)


def test_all_that_git_calls_local_to_a_repository_is_dropped():
    assert set(LOCAL.stdout.split()) <= DROPPED


@pytest.mark.parametrize("name", sorted(DROPPED))
def test_commit_and_tag_land_in_this_repository_whatever_a_hook_of_another_sets(workspace, tmp_path, monkeypatch, name):
    other = tmp_path / "other"
    git("init", "--quiet", other)
    git("commit", "--quiet", "--allow-empty", "-m", "theirs", folder=other)
    theirs = git("rev-parse", "HEAD", folder=other)
    values = {
        "GIT_DIR": other / ".git", "GIT_COMMON_DIR": other / ".git", "GIT_WORK_TREE": other,
        "GIT_INDEX_FILE": other / ".git/index", "GIT_OBJECT_DIRECTORY": other / ".git/objects",
        "GIT_CONFIG": other / ".git/config", "GIT_PREFIX": "sub/", "GIT_CEILING_DIRECTORIES": workspace.parent,
        "GIT_QUARANTINE_PATH": other / ".git/objects", "GIT_NAMESPACE": "theirs",
        "GIT_CONFIG_PARAMETERS": "'core.bare=true'",
    }  # fmt: skip
    with monkeypatch.context() as hook:
        hook.setenv(name, str(values.get(name, "1")))
        if name == "GIT_CONFIG_COUNT":
            hook.setenv("GIT_CONFIG_KEY_0", "core.worktree")
            hook.setenv("GIT_CONFIG_VALUE_0", str(other))
        Path("new.txt").write_text("new", "utf-8")
        record_in_git([Path("new.txt")], message="mine", tag="classifier@v1.0.0", log=pytest.fail)
    assert git("show", "classifier@v1.0.0:new.txt") == "new"
    assert git("log", "-1", "--format=%s").strip() == "mine"
    assert (git("rev-parse", "HEAD", folder=other), git("tag", folder=other)) == (theirs, "")


def test_commit_from_a_hook_of_another_repository_has_an_author_and_a_date_of_its_own(workspace, tmp_path):
    other, hook = tmp_path / "other", tmp_path / "other/.git/hooks/post-commit"
    git("init", "--quiet", other)
    code = "from pathlib import Path; from flows.workspace.git import record_in_git as r; r([Path('new.txt')], "
    code += "message='mine', log=print)"
    Path("new.txt").write_text("new", "utf-8")
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f'#!/bin/sh\ncd {workspace} && PYTHONPATH={ROOT} {sys.executable} -c "{code}"\n', "utf-8")
    hook.chmod(0o755)
    stranger = ("--author=Stranger <s@example.org>", "--date=2001-01-01T00:00:00Z")
    git("commit", "--quiet", "--allow-empty", "-m", "theirs", *stranger, folder=other)
    message, author, year = git("log", "-1", "--format=%s|%an|%as").strip().split("|")
    assert message == "mine"
    assert author != "Stranger"
    assert not year.startswith("2001")


def test_checkout_whose_settings_name_another_folder_is_refused_before_anything_is_written(workspace, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    git("config", "core.worktree", tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"git takes another folder than .* for the checkout: .*core\.worktree"):
        record_in_git([Path("params.yaml")], message="none", log=pytest.fail)


@pytest.mark.parametrize("proxy", ["http_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_this_machine_is_reached_past_any_proxy(monkeypatch, proxy):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    assert past_the_proxy() == {}
    monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    expected = "inside.example,localhost,127.0.0.1,::1"
    assert past_the_proxy() == {"no_proxy": expected, "NO_PROXY": expected}
    monkeypatch.setenv("NO_PROXY", "*")
    assert past_the_proxy() == {}


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can be another user, by setpriv"
)
@pytest.mark.parametrize("home", [None, "/nonexistent"])
def test_user_without_a_name_or_a_home_gets_them(workspace, home):
    """A container may run as any number; DVC and Prefect ask for the user's name, and Prefect writes to its home."""
    code = (
        "from flows.workspace.environment import settle_environment; settle_environment();"
        "import getpass, os, pathlib; print(getpass.getuser(), pathlib.Path.home(), os.environ.get('PREFECT_HOME'))"
    )
    Path(".dvc/tmp").mkdir(exist_ok=True)
    os.chown(".dvc/tmp", 54321, 54321)
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
    user = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
    user += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    given = kept | ({"HOME": home} if home else {}) | {"PYTHONPATH": str(ROOT)}
    done = run(*user, sys.executable, "-c", code, env=given)
    name, folder, prefect = done.stdout.split()
    own = str(workspace / ".dvc/tmp/home")
    assert name == "54321"
    assert folder == (home or own)
    assert home is None or prefect == own


def test_what_a_project_does_not_use_changes_nothing_of_its_environment(monkeypatch, workspace):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    assert environment(A="1") == os.environ | {"A": "1"}
