"""What killed programs left locked is free for the next run, and nothing is taken from a program at work."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from flows.workspace.git import record_in_git
from flows.workspace.hold import only_writer
from flows.workspace.mending import left_behind, mend
from tests.kit.programs import SECONDS, git, run, run_module, running
from tests.kit.watching import until

INDEX_LOCK = Path(".git/index.lock")
LIST = Path(".dvc/tmp/rwlock")
KILLED_WHILE_IT_HOLDS = """
import os, signal, sys
from dvc.lock import make_lock
make_lock(os.path.abspath(sys.argv[1]), tmp_dir=os.path.abspath(".dvc/tmp"), hardlink_lock=True).lock()
os.kill(os.getpid(), signal.SIGKILL)
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="only /proc tells who is at work")


@pytest.fixture
def slow_git(workspace):
    """Git holds the lock of its index for as long as a file of this workspace exists."""
    Path(".git/info").mkdir(exist_ok=True)
    Path(".git/info/attributes").write_text("slow.txt filter=slow\n", "utf-8")
    git("config", "filter.slow.clean", "while [ -e .git/busy ]; do sleep 0.05; done; cat")
    Path(".git/busy").touch()
    Path("slow.txt").write_text("slow", "utf-8")


def locked_by_git(process):
    until(INDEX_LOCK.exists)
    assert process.poll() is None


def test_lock_of_a_git_that_was_killed_in_its_write_is_removed_and_the_run_commits(slow_git):
    with running("git", "add", "slow.txt", start_new_session=True) as process:
        locked_by_git(process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(SECONDS)
    assert left_behind() == [str(INDEX_LOCK.absolute())]
    Path(".git/busy").unlink()
    said = []
    with only_writer(log=said.append):
        record_in_git([Path("slow.txt")], message="slow", log=print)
    assert said == [f"removed {INDEX_LOCK.absolute()}, which a killed git left"]
    assert git("show", "HEAD:slow.txt") == "slow"


def test_lock_of_a_git_at_work_is_left_alone(slow_git):
    with running("git", "add", "slow.txt") as process:
        locked_by_git(process)
        mend(lambda line: pytest.fail(line))
        assert INDEX_LOCK.exists()
        Path(".git/busy").unlink()
        assert process.wait(SECONDS) == 0


def test_lock_that_any_program_has_open_is_left_alone(workspace):
    """An editor writes the index by a library of its own."""
    with INDEX_LOCK.open("w") as held, running("sleep", "600", stdin=held) as other:
        mend(lambda line: pytest.fail(line))
        assert other.poll() is None
    assert INDEX_LOCK.exists()


@pytest.mark.parametrize("torn", ["", '{"read": {', "[]"])
def test_list_of_locks_that_a_killed_dvc_left_torn_stops_no_later_dvc(workspace, dvc, torn):
    dvc(workspace, "config", "--local", "core.analytics", "false")
    LIST.parent.mkdir(exist_ok=True)
    LIST.write_text(torn, "utf-8")
    done = run_module("flows.doctor", "--mend", status=None)
    assert "mend  removed .dvc/tmp/rwlock, which a killed DVC left incomplete" in done.stdout
    assert not LIST.exists()
    assert left_behind() == []
    assert "nothing to mend" in run_module("flows.doctor", "--mend", status=None).stdout


def test_doctor_names_what_was_left_and_refuses_to_mend_beside_a_run(workspace):
    LIST.parent.mkdir(exist_ok=True)
    LIST.touch()
    assert "FAIL  locks" in (said := run_module("flows.doctor", status=1).stdout)
    assert "left .dvc/tmp/rwlock: `graftline doctor --mend` removes it" in said
    with only_writer():
        LIST.touch()
        done = run_module("flows.doctor", "--mend", status=1)
        assert f"error: process {os.getpid()} is at work in" in done.stderr
        assert LIST.exists()


@pytest.fixture
def hardlink_lock(workspace, dvc):
    dvc(workspace, "config", "--local", "core.hardlink_lock", "true")
    return workspace


def test_run_leaves_no_lock_where_dvc_locks_by_links(hardlink_lock, dvc):
    with only_writer():
        pass
    with only_writer():
        assert [file.name for file in Path(".dvc/tmp").iterdir() if file.name in ("lock", "rwlock.lock")] == []
    Path("new.txt").touch()
    dvc(hardlink_lock, "add", "new.txt")


@pytest.mark.parametrize("name", ["lock", "rwlock.lock"])
def test_lock_of_a_dvc_that_was_killed_where_it_locks_by_links_is_removed(hardlink_lock, dvc, name):
    Path(".dvc/tmp").mkdir(exist_ok=True)
    lock = Path(".dvc/tmp", name)
    done = run(sys.executable, "-c", KILLED_WHILE_IT_HOLDS, lock, status=None)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert lock.exists()
    with only_writer():
        Path("new.txt").touch()
        dvc(hardlink_lock, "add", "new.txt")
    assert not lock.exists()


def test_lock_of_a_dvc_at_work_that_locks_by_links_is_left_alone(hardlink_lock):
    lock = Path(".dvc/tmp/lock")
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(f"{Path.cwd()}/.dvc/tmp/claim.lock", "utf-8")
    time.sleep(2)
    with running(sys.executable, "-c", "import time; time.sleep(600)", "dvc", "repro"):
        mend(lambda line: pytest.fail(line))
    assert lock.exists()
