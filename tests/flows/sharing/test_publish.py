"""Runs are given to others, also after a failure: with real remotes of git and DVC, and on S3."""

import json
import shutil

import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from flows.sharing import mounted
from flows.sharing.publish import OWED, about_run, check_publishable, commit_run, publish
from flows.workspace.dvc import DvcError
from flows.workspace.git import BY_GATE, RefusedError
from flows.workspace.working_copy import commit
from tests.kit import programs
from tests.kit.sharing import copied

pytestmark = [
    # Prefect's server and client cause these at shut-down
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CANDIDATE = "0123456789ab" * 5 + "0123"
JUDGE = "mkdir data/regression && cp verdict.json data/regression"
# the other stages are there for the paths that their commands name, and never run
PIPELINE = f"""
vars: [data/batches.yaml]
stages:
  scan:
    frozen: true
    cmd: exec true --raw data/raw/first
  validate:
    frozen: true
    cmd: exec true --corrections data/corrections.csv
  finetune:
    frozen: true
    cmd: exec true --start-record data/start.json --start data/start
  regression:
    cmd: exec sh judge.sh --decisions data/decisions.jsonl --anchor data/anchor.json --out data/regression
    deps: [params.yaml]
    outs: [data/regression]
  # {CANDIDATE}
"""


@flow
def publishing(to):
    publish(to)


def git(*arguments, folder=None):
    return programs.git(*arguments, folder=folder).strip()


def task_runs(since=0):
    """Return the names of the pushes in their order, and the number of attempts of each."""
    with get_client(sync_client=True) as client:
        runs = sorted(client.read_task_runs(limit=200), key=lambda run: run.expected_start_time)
    return [(run.name, run.run_count) for run in runs][since:]


@pytest.fixture
def before(prefect_api):
    return len(task_runs())


@pytest.fixture(scope="module")
def template(empty_project, tmp_path_factory, dvc):
    """A workspace whose stage ran; beside it the remotes `hub.git` and `mount/store`. Copy it, never change it."""
    place = tmp_path_factory.mktemp("template")
    workspace = place / "workspace"
    copied(empty_project, workspace)
    (workspace / "dvc.yaml").write_text(PIPELINE, "utf-8")
    (workspace / "judge.sh").write_text(JUDGE, "utf-8")
    (workspace / "verdict.json").write_text(json.dumps({"candidate": CANDIDATE, "verdict": "accepted"}), "utf-8")
    with (workspace / ".dvc/config").open("a") as config:
        config.write("    remote = store\n['remote \"store\"']\n    url = ../../mount/store\n")
    commit(workspace, "a stage")
    git("init", "--quiet", "--bare", "--initial-branch=main", str(place / "hub.git"))
    git("remote", "add", "origin", "../hub.git", folder=workspace)
    git("push", "--quiet", "origin", "main", folder=workspace)
    dvc(workspace, "repro")
    return place


@pytest.fixture
def made(template, before, tmp_path, monkeypatch):
    """A copy that a test runs in and may change. Its run is committed here and not published."""
    copied(template, tmp_path)
    monkeypatch.setenv("GRAFTLINE_RETRY_SECONDS", "0.1,0.1")
    monkeypatch.chdir(tmp_path / "workspace")
    commit_run(log=lambda line: None)
    return tmp_path / "workspace"


def tip(tmp_path, branch="main"):
    return git("rev-parse", branch, folder=tmp_path / "hub.git")


def test_data_is_pushed_first_then_the_run_cache_then_git(made, before, tmp_path):
    publishing("main")
    assert [name for name, _ in task_runs(before)] == ["push data", "push run cache", "push git"]
    assert tip(tmp_path) == git("rev-parse", "HEAD")
    assert git("log", "-1", "--format=%s") == "retrain: 0123456789ab is accepted"
    assert {path.name for path in (tmp_path / "mount/store").iterdir()} == {"files", "runs"}
    assert not OWED.exists()


def test_message_of_a_run_has_its_data_and_its_duration(workspace):
    (workspace / "data/batches.yaml").write_text("batches: [first, second]\n", "utf-8")
    assert about_run(75.2) == "Data: 2 batches, the newest is second. Duration: 1 min 15 s."
    assert about_run(None) == "Data: 2 batches, the newest is second."


def test_published_run_is_not_pushed_again(made, before):
    publishing("main")
    publishing("main")
    assert len(task_runs(before)) == 3


def test_run_killed_before_its_commit_is_committed_and_published_by_the_next(made, tmp_path, dvc):
    publishing("main")
    (made / "params.yaml").write_text((made / "params.yaml").read_text("utf-8") + "# new\n", "utf-8")
    commit(made, "new params")
    dvc(made, "repro")
    publishing("main")
    assert git("status", "--porcelain") == ""
    assert tip(tmp_path) == git("rev-parse", "HEAD")


def test_run_without_its_dvc_remote_pushes_no_commit_and_the_next_run_publishes_it(made, before, tmp_path):
    (tmp_path / "mount").write_text("no folder: nothing is mounted here", "utf-8")
    earlier, lock = tip(tmp_path), (made / "dvc.lock").read_bytes()
    with pytest.raises(DvcError):
        publishing("main")
    assert task_runs(before) == [("push data", 3)]  # once, and again after each of two pauses
    assert tip(tmp_path) == earlier
    assert git("show", "HEAD:dvc.lock").encode() + b"\n" == lock
    assert json.loads((made / "data/regression/verdict.json").read_text("utf-8"))["candidate"] == CANDIDATE
    (tmp_path / "mount").unlink()
    publishing("main")
    assert tip(tmp_path) == git("rev-parse", "HEAD")


def test_remote_whose_disk_is_not_mounted_gets_nothing_and_neither_does_git(made, before, tmp_path):
    publishing("main")
    (tmp_path / "mount").rename(tmp_path / "unmounted")
    store = tmp_path / "mount/store"
    store.mkdir(parents=True)  # the empty mount point
    (made / "data/batches.yaml").write_text("batches: []\n# new\n", "utf-8")
    tip_before = tip(tmp_path)
    with pytest.raises(ValueError, match=r"the DVC remote store is the folder .*/mount/store, .* mount its disk"):
        check_publishable("main")
    with pytest.raises(ValueError, match="mount its disk"):
        publishing("main")
    assert (list(store.iterdir()), tip(tmp_path)) == ([], tip_before)
    shutil.rmtree(tmp_path / "mount")
    (tmp_path / "unmounted").rename(tmp_path / "mount")
    publishing("main")
    assert tip(tmp_path) == git("rev-parse", "HEAD")


def test_first_remote_below_a_place_for_disks_is_refused_where_no_disk_is_mounted(made, dvc):
    missing = "/mnt/graftline-has-no-such-disk/store"
    dvc(made, "remote", "add", "--force", "--default", "far", missing)
    commit(made, "another remote")
    with pytest.raises(ValueError, match=f"{missing}, which is missing, and no disk is mounted above it"):
        check_publishable("main")


def test_first_remote_in_a_place_of_fstab_is_refused_where_its_disk_is_not_mounted(made, dvc, tmp_path, monkeypatch):
    monkeypatch.setattr(mounted, "FSTAB", tmp_path / "fstab")
    place = tmp_path / "my disk"
    place.mkdir()  # the empty mount point
    mounted.FSTAB.write_text(f"# disks\n/dev/sda1 / ext4\n/dev/sdb1 {tmp_path}/my\\040disk ext4\n", "utf-8")
    for remote in (place, place / "store"):
        dvc(made, "remote", "add", "--force", "--default", "far", str(remote))
        commit(made, "another remote")
        with pytest.raises(ValueError, match=rf"the disk that .*/fstab names for {place} is not mounted: mount it"):
            check_publishable("main")


def test_push_to_git_succeeds_at_the_next_attempt_once_the_remote_is_back(made, before, tmp_path):
    flaky = tmp_path / "flaky"
    flaky.write_text(
        f'#!/bin/sh\n[ -e {tmp_path}/back ] && exec git-receive-pack "$@"\ntouch {tmp_path}/back\nexit 1\n'
    )
    flaky.chmod(0o755)
    git("config", "remote.origin.receivepack", str(flaky))
    publishing("main")
    assert task_runs(before)[-1] == ("push git", 2)
    assert tip(tmp_path) == git("rev-parse", "HEAD")


def test_commits_of_others_are_not_overwritten_and_the_push_is_not_repeated(made, before, tmp_path):
    other = tmp_path / "other"
    git("clone", "--quiet", str(tmp_path / "hub.git"), str(other))
    git("commit", "--quiet", "--allow-empty", "-m", "meanwhile", folder=other)
    git("push", "--quiet", folder=other)
    with pytest.raises(
        RefusedError, match="origin has commits on main that are not here: `git pull --no-rebase origin main`"
    ):
        publishing("main")
    assert task_runs(before)[-1] == ("push git", 1)
    assert tip(tmp_path) == git("rev-parse", "HEAD", folder=other)
    git("pull", "--quiet", "--no-rebase", "--no-edit", "origin", "main")
    publishing("main")
    assert tip(tmp_path) == git("rev-parse", "HEAD")


def test_protected_branch_is_reported_and_the_push_is_not_repeated(made, before, tmp_path):
    hook = tmp_path / "hub.git/hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho main is protected >&2\nexit 1\n", "utf-8")
    hook.chmod(0o755)
    with pytest.raises(RefusedError, match=r"does not take a push to main .*main is protected.* publish to a branch"):
        publishing("main")
    assert task_runs(before)[-1] == ("push git", 1)


def test_push_to_a_branch_leaves_main_and_tags_alone(made, tmp_path):
    earlier = tip(tmp_path)
    git("tag", "--annotate", "-m", "in use", "classifier@v1.0.0")
    publishing("branch")
    assert tip(tmp_path) == earlier
    assert tip(tmp_path, "graftline/0123456789ab") == git("rev-parse", "HEAD")
    assert git("tag", folder=tmp_path / "hub.git") == ""


@pytest.mark.parametrize("theirs", ["a reviewer's change", "promote 0123456789ab: reviewed"])
def test_branch_of_a_candidate_follows_main_but_never_overwrites_a_persons_commit(made, tmp_path, theirs):
    publishing("branch")
    branch = "graftline/0123456789ab"
    first = tip(tmp_path, branch)
    git("commit", "--quiet", "--amend", "-m", "retrain: the same content, at another time")
    OWED.touch()
    publishing("branch")
    assert tip(tmp_path, branch) == first
    (made / "NOTES").write_text("main went on", "utf-8")
    git("add", "NOTES")
    git("commit", "--quiet", "--amend", "-m", "retrain: from a later main")
    OWED.touch()
    publishing("branch")
    assert tip(tmp_path, branch) == git("rev-parse", "HEAD")
    other = tmp_path / "other"
    git("clone", "--quiet", "--branch", branch, str(tmp_path / "hub.git"), str(other))
    git("commit", "--quiet", "--allow-empty", "-m", theirs, folder=other)
    git("push", "--quiet", folder=other)
    git("commit", "--quiet", "--amend", "--allow-empty", "-m", "retrain: once more")
    (made / "NOTES").unlink()
    git("commit", "--quiet", "--all", "--amend", "-m", "retrain: once more, without notes")
    OWED.touch()
    publishing("branch")
    assert git("log", "-1", "--format=%s", branch, folder=tmp_path / "hub.git") == theirs


def test_branch_on_which_a_run_promoted_its_candidate_follows_main_too(made, tmp_path):
    git("commit", "--quiet", "--amend", "-m", f"promote 0123456789ab: {BY_GATE}")
    publishing("branch")
    (made / "NOTES").write_text("main went on", "utf-8")
    git("add", "NOTES")
    git("commit", "--quiet", "--amend", "-m", f"promote 0123456789ab: {BY_GATE}")
    OWED.touch()
    publishing("branch")
    assert tip(tmp_path, "graftline/0123456789ab") == git("rev-parse", "HEAD")


def test_missing_remote_is_reported_before_anything_runs(made, dvc):
    check_publishable("main")
    git("switch", "--quiet", "--detach")
    check_publishable("branch")
    with pytest.raises(ValueError, match="no branch is checked out"):
        check_publishable("main")
    git("switch", "--quiet", "main")
    dvc(made, "remote", "remove", "store")
    with pytest.raises(ValueError, match="DVC has no default remote: `dvc remote add --default NAME URL`"):
        check_publishable("branch")
    git("remote", "remove", "origin")
    with pytest.raises(ValueError, match="git has no remote origin to publish to: `git remote add origin URL`"):
        check_publishable("branch")
    check_publishable("no")


@pytest.mark.parametrize(
    "name",
    [
        "params.yaml",
        "data/corrections.csv",
        "tasks/training/loop/fit.py",
        "tests/regression/test_mine.py",
        ".dvc/config",
    ],
)
def test_uncommitted_source_of_a_run_is_refused_before_anything_runs(made, name):
    with (made / name).open("a") as file:
        file.write("# mine\n")
    with pytest.raises(ValueError, match=f"^{name}: not as committed.* commit it, or `git restore` it"):
        check_publishable("branch")
    check_publishable("no")
    commit(made, "mine")
    check_publishable("branch")


def test_file_that_a_run_commits_or_no_stage_reads_may_differ(made):
    for name in ("data/batches.yaml", "README.md"):
        with (made / name).open("a") as file:
            file.write("# new\n")
    check_publishable("branch")


def test_pauses_that_are_not_numbers_are_refused(monkeypatch):
    monkeypatch.setenv("GRAFTLINE_RETRY_SECONDS", "soon")
    with pytest.raises(ValueError, match="GRAFTLINE_RETRY_SECONDS is 'soon', expected seconds such as '10,60,300'"):
        check_publishable("no")


def test_clone_with_a_remote_on_s3_runs_nothing_again(made, bucket, s3_server, tmp_path, dvc):
    dvc(made, "remote", "modify", "store", "url", "s3://door/models")
    dvc(made, "remote", "modify", "store", "endpointurl", s3_server)
    commit(made, "the remote is on S3")
    publishing("main")
    clone = tmp_path / "clone"
    git("clone", "--quiet", str(tmp_path / "hub.git"), str(clone))
    (clone / "dvc.lock").unlink()
    printed = dvc(clone, "repro", "--pull", "--allow-missing")
    assert "Running stage" not in printed
    assert "'regression' is cached" in printed
    assert (clone / "dvc.lock").read_bytes() == (made / "dvc.lock").read_bytes()
    assert "nothing-secret" not in (made / ".dvc/config").read_text("utf-8")
