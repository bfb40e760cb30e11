"""Verbs that are forked from a process that has imported what they need, in a project with one small verb."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.kit.process_tree import is_running
from tests.kit.programs import SECONDS, run

ROOT = Path(__file__).parents[3]
TELL = """
import json, os, sys, time
if __name__ == "__main__":
    facts = {
        "pid": os.getpid(), "arguments": sys.argv[1:], "folder": os.getcwd(),
        "stage": os.environ.get("DVC_STAGE"), "address": os.environ.get("GRAFTLINE_WARM"),
    }
    print(json.dumps(facts), flush=True)
    if "stay" in sys.argv:
        time.sleep(300)
    if "late" in sys.argv:
        import atexit, threading
        atexit.register(lambda: print("registered", file=sys.stderr))
        threading.Thread(target=lambda: (time.sleep(0.1), print("in a thread", file=sys.stderr))).start()
    print("an error", file=sys.stderr)
    sys.exit("no number" if "words" in sys.argv else 3)
"""
ASK = """
import json, os, subprocess, sys
process = subprocess.Popen(
    [sys.executable, "-m", "tasks.tell", *sys.argv[1:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    env=os.environ | {"DVC_STAGE": "tell"} | json.loads(os.environ.get("MORE", "{}")),
)
line = process.stdout.readline()
print(json.dumps(json.loads(line) | {"asker": process.pid}), flush=True)
print(json.dumps({"error": process.stderr.read(), "status": process.wait()}), flush=True)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose one verb, `tell`, prints what it is. The test runs in it."""
    files = [
        "__init__.py", "machine/__init__.py", "machine/failures.py", "machine/garbage.py", "machine/interpreter.py",
        "machine/late_modules.py", "machine/lifeline.py", "machine/sources.py", "stage/__init__.py",
        "stage/handover.py", "stage/warm.py",
    ]  # fmt: skip
    for name in files:
        file = tmp_path / "project/tasks" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "tasks" / name, file)
    (tmp_path / "project/tasks/tell.py").write_text(TELL, "utf-8")
    (tmp_path / "project/ask.py").write_text(ASK, "utf-8")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path / "project"


@pytest.fixture
def command(project):
    """Return the words that run `ask.py` with a process beside it that forks verbs."""

    def words(*arguments, address="s"):
        return [sys.executable, "-m", "tasks.stage.warm", str(address), sys.executable, "ask.py", *arguments]

    return words


@pytest.fixture
def ask(command):
    """Ask for the verb once, and return what it told, and how it ended."""

    def once(*arguments, **more):
        done = run(*command(*arguments), env=os.environ | {"MORE": json.dumps(more)})
        facts, end = map(json.loads, done.stdout.splitlines())
        return facts | end

    return once


@pytest.fixture
def staying(command):
    """Start the verb, which stays until it is killed; yield the process that forks, and what the verb told."""
    with subprocess.Popen(command("stay"), stdout=subprocess.PIPE, text=True) as process:
        yield process, json.loads(process.stdout.readline())
        process.kill()


def wait_for_end(pid):
    end = time.monotonic() + SECONDS
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not is_running(pid)


def is_forked(facts):
    """Whether another process than that which was started ran the verb."""
    return facts["pid"] != facts["asker"]


def test_forked_verb_does_what_it_does_by_itself(ask, project):
    words = ["--out", "a b", "", "it's \"\\\r\n\u2028", "é\U0001f600", "no UTF-8: \udcff"]
    facts = ask(*words)
    assert is_forked(facts)
    assert facts["arguments"] == words
    assert (facts["folder"], facts["stage"]) == (str(project), "tell")
    assert facts["address"] is None  # what the verb starts runs by itself
    assert (facts["error"], facts["status"]) == ("an error\n", 3)


def test_forked_verb_does_at_its_end_what_python_does(ask):
    facts = ask("late", "words")
    assert is_forked(facts)
    assert (facts["error"], facts["status"]) == ("an error\nno number\nin a thread\nregistered\n", 1)


def test_what_an_import_made_is_there_for_every_later_verb(project):
    (project / "tasks/place.py").write_text("import tempfile\nplace = tempfile.TemporaryDirectory()\n", "utf-8")
    tell = (
        "import os\nfrom tasks.place import place\nif __name__ == '__main__':\n    print(os.path.isdir(place.name))\n"
    )
    (project / "tasks/tell.py").write_text(tell, "utf-8")
    twice = "import subprocess, sys\nfor _ in range(2):\n    subprocess.run([sys.executable, '-m', 'tasks.tell'])\n"
    (project / "ask.py").write_text(twice, "utf-8")
    done = run(sys.executable, "-m", "tasks.stage.warm", "s", sys.executable, "ask.py")
    assert done.stdout == "True\nTrue\n"


def test_verb_runs_by_itself_in_another_environment(ask):
    assert not is_forked(ask(OMP_NUM_THREADS="7"))


def test_verb_whose_comments_changed_meanwhile_runs_by_itself(ask, project):
    text = (project / "ask.py").read_text("utf-8")
    change = "from pathlib import Path\nPath('tasks/machine/lifeline.py').open('a').write('# changed')\n"
    (project / "ask.py").write_text(change + text, "utf-8")
    facts = ask()
    assert not is_forked(facts)
    assert (facts["error"], facts["status"]) == ("an error\n", 3)


def test_verb_is_refused_once_the_code_computes_something_else(project):
    """DVC would keep the result under the digest of the code that the stages began with, and find it there again."""
    change = "from pathlib import Path\nPath('tasks/tell.py').open('a').write('x = 1')\n"
    start = "import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'tasks.tell'])\n"
    (project / "ask.py").write_text(change + start, "utf-8")
    failures = project / "failures"
    words = [sys.executable, "-m", "tasks.stage.warm", "s", sys.executable, "ask.py"]
    done = run(*words, env=os.environ | {"GRAFTLINE_FAILURES": str(failures)})
    error = "the code below tasks/ changed while the stages ran: run again; what was finished is kept"
    assert (done.stdout, done.stderr) == ("", f"error: {error}\n")
    assert json.loads(failures.read_text("utf-8"))["error"] == error


def test_link_that_an_editor_leaves_for_a_file_that_is_open_harms_nothing(ask, project):
    (project / "tasks/.#tell.py").symlink_to("somebody@somewhere.1")
    assert is_forked(ask())


def test_verb_that_cannot_be_imported_says_why_itself(ask, project):
    (project / "tasks/tell.py").write_text("import nothing_of_that_name\n" + TELL, "utf-8")
    done = run(sys.executable, "-m", "tasks.stage.warm", "s", sys.executable, "-m", "tasks.tell", status=1)
    assert "has no package nothing_of_that_name" in done.stderr


def test_verb_ends_when_the_process_that_was_started_for_it_is_killed(staying):
    _, facts = staying
    assert is_forked(facts)
    os.kill(facts["asker"], signal.SIGKILL)
    wait_for_end(facts["pid"])


def test_killed_verb_counts_as_killed(staying):
    process, facts = staying
    os.kill(facts["pid"], signal.SIGKILL)
    assert json.loads(process.stdout.readline())["status"] == -signal.SIGKILL


def test_verb_ends_with_the_process_that_forked_it_and_counts_as_failed(staying):
    process, facts = staying
    process.kill()
    wait_for_end(facts["pid"])
    end = json.loads(process.stdout.readline())
    assert "was killed: run it again" in end["error"]
    assert end["status"] == 1


def test_verb_that_has_begun_is_not_run_again_where_the_process_that_forked_it_did_nothing_more(project, command):
    stop = "\nif __name__ != '__main__':\n    os.register_at_fork(after_in_parent=lambda: time.sleep(300))\n"
    (project / "tasks/tell.py").write_text(TELL + stop, "utf-8")
    with subprocess.Popen(command("stay"), stdout=subprocess.PIPE, text=True) as process:
        assert is_forked(json.loads(process.stdout.readline()))
        process.kill()
        end = json.loads(process.stdout.readline())
    assert "was killed: run it again" in end["error"]
    assert end["status"] == 1


def test_command_runs_where_no_socket_can_be(command):
    done = run(*command(address="far" * 50))
    facts, end = map(json.loads, done.stdout.splitlines())
    assert not is_forked(facts)
    assert end["status"] == 3
