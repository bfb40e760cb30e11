"""The seam to DVC, on a pipeline of one stage."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.kit.process_tree import is_running
from flows.workspace import dvc as seam
from flows.workspace.dvc import DvcError, answer_of, lines_of
from flows.workspace.hold import only_writer
from tests.kit.programs import SECONDS, running
from tests.kit.warm_starts import DVC

ROOT = Path(__file__).parents[3]
DEAF = 'trap "" TERM; echo number $$; sleep 300'  # a stage that ignores SIGTERM
HOLDER = """
from flows.workspace.dvc import lines_of
from flows.workspace.hold import only_writer
with only_writer():
    for line in lines_of("repro"):
        print(line, flush=True)
"""


@pytest.fixture
def pipeline(tmp_path, monkeypatch, dvc):
    """Make a pipeline whose one stage is this command. The test runs in it."""
    monkeypatch.chdir(tmp_path)
    dvc(tmp_path, "init", "--no-scm", "--quiet")

    def make(command):
        (tmp_path / "dvc.yaml").write_text(f"stages:\n  only:\n    cmd: '{command}'\n", "utf-8")

    return make


@pytest.fixture
def own_dvc(pipeline, monkeypatch):
    """DVC is the process that was started, and no fork of another."""
    monkeypatch.delenv(DVC)


def number_in(lines):
    """Return the process number that the stage prints."""
    return next(int(line.split()[1]) for line in lines if line.startswith("number "))


def test_stage_that_ignores_sigterm_is_killed_when_the_lines_are_closed(pipeline, own_dvc):
    pipeline(DEAF)
    lines = lines_of("repro")
    stage = number_in(lines)
    lines.close()
    assert not is_running(stage)


def test_workspace_of_a_killed_run_is_free_once_its_stage_is_gone(pipeline, own_dvc):
    """The run has no process around it, like those that Prefect starts."""
    pipeline(DEAF)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with running(sys.executable, "-c", HOLDER, env=environment, stdout=subprocess.PIPE) as holder:
        stage = number_in(holder.stdout)
        holder.kill()
        holder.wait(timeout=SECONDS)
        with only_writer():
            assert not is_running(stage)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("stages\n  only:\n", r"dvc.yaml' is invalid.*in line 2.*mend that file"),
        ("stages:\n  only:\n    comd: x\n", r"dvc.yaml' validation failed.*comd.*mend that file"),
    ],
)
def test_file_that_dvc_cannot_read_is_named_with_what_to_do(pipeline, content, message):
    pipeline("true")
    Path("dvc.yaml").write_text(content, "utf-8")
    with pytest.raises(DvcError, match=message):
        list(lines_of("repro"))


def test_file_in_the_place_of_a_folder_is_named_with_what_to_do(pipeline):
    Path("dvc.yaml").write_text(
        "stages:\n  only:\n    cmd: mkdir folder; touch folder/a\n    outs: [folder/a]\n", "utf-8"
    )
    list(lines_of("repro"))
    shutil.rmtree("folder")
    Path("folder").touch()
    with pytest.raises(DvcError, match=r"Not a directory: '.*/folder/a': .* move it away"):
        list(lines_of("repro"))


@pytest.fixture
def locked(pipeline):
    """Make DVC's list of locks name a process with these arguments as running the stage."""

    def lock(process, arguments):
        Path("dvc.yaml").write_text(
            "vars: [data/batches.yaml]\nstages:\n  only:\n    cmd: touch made\n    outs: [made]\n", "utf-8"
        )
        info = {"pid": process, "cmd": f"/some/where/dvc/__main__.py {arguments}"}
        locks = {"write": {str(Path("made").absolute()): info}}  # DVC leaves out what is empty
        Path("data").mkdir()
        Path("data/batches.yaml").write_text("batches: []\n", "utf-8")
        Path(".dvc/tmp").mkdir(exist_ok=True)
        Path(".dvc/tmp/rwlock").write_text(json.dumps(locks), "utf-8")

    return lock


def test_line_of_a_log_is_no_error_and_names_no_data(pipeline):
    """A class may be called so."""
    pipeline("echo error: run \\`dvc pull --evil.dvc\\`; exit 1")
    failures = []
    with pytest.raises(DvcError, match="failed to run") as raised:
        list(lines_of("repro", failures=failures))
    assert failures == []
    assert not raised.value.is_of_a_verb


def test_error_of_a_stage_is_what_it_told_in_its_file(pipeline):
    told = json.dumps({"error": "sample a.png is missing", "pointer": "data/raw/first.dvc"})
    Path("tell.py").write_text(
        f"import os, sys\nopen(os.environ['GRAFTLINE_FAILURES'], 'a').write({told!r} + chr(10))\nsys.exit(1)\n", "utf-8"
    )
    pipeline(f"{sys.executable} tell.py")
    failures = []
    with pytest.raises(DvcError, match=r"^sample a\.png is missing$"):
        list(lines_of("repro", failures=failures))
    assert [failure.pointer for failure in failures] == ["data/raw/first.dvc"]


def test_what_a_terminal_would_obey_is_escaped(pipeline):
    pipeline('printf "a\\033[2Jb\\n"')
    assert [line for line in lines_of("repro") if "2J" in line and not line.startswith(">")] == ["a\\x1b[2Jb"]


def test_lock_of_a_killed_dvc_is_dropped_though_another_process_has_its_number(locked):
    locked(os.getpid(), "--wait-for-lock repro the-stage")
    with only_writer():
        list(lines_of("repro"))
    assert Path("made").exists()


def test_dvc_that_is_at_work_is_named_with_what_to_do(locked):
    with running(sys.executable, "-c", "import time; time.sleep(600)", "repro", "the-stage") as other:
        locked(other.pid, "repro the-stage")
        with only_writer(), pytest.raises(DvcError, match=rf"made' is busy.*PID {other.pid}.*: wait for that process"):
            list(lines_of("repro"))


def test_dvc_that_runs_too_long_is_ended_and_reported(pipeline, monkeypatch):
    pipeline("sleep 300")
    monkeypatch.setenv("GRAFTLINE_DVC_HOURS", "0.001")
    with pytest.raises(DvcError, match=r"^dvc repro was ended after 0.001 hours: .*GRAFTLINE_DVC_HOURS"):
        list(lines_of("repro"))


@pytest.mark.parametrize("hours", ["a day", "0", "nan", "inf"])
def test_hours_that_are_not_a_number_are_refused(pipeline, monkeypatch, hours):
    monkeypatch.setenv("GRAFTLINE_DVC_HOURS", hours)
    with pytest.raises(ValueError, match=f"GRAFTLINE_DVC_HOURS is '{hours}', expected hours such as 24"):
        list(lines_of("version"))


def test_question_that_dvc_does_not_answer_is_ended_soon_with_what_to_do(pipeline, monkeypatch):
    pipeline("sleep 300")
    monkeypatch.setattr(seam, "QUESTION_SECONDS", 3.0)
    with pytest.raises(DvcError, match=r"^dvc repro gave no answer within 3 s, .* made with --filter"):
        answer_of("repro")


def test_error_of_dvc_is_read_in_an_ide_whose_terminal_has_colours(pipeline, own_dvc, monkeypatch):
    monkeypatch.setenv("PYCHARM_HOSTED", "1")
    pipeline("false")
    with pytest.raises(DvcError, match=r"^failed to reproduce 'only': failed to run: false, exited with 1"):
        list(lines_of("repro"))
