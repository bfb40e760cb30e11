"""The seam to DVC, on a pipeline of one stage."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.process_tree import is_running
from flows.repro import DvcError, lines_of, only_writer

ROOT = Path(__file__).parents[2]
DEAF = 'trap "" TERM; echo number $$; sleep 300'  # a stage that SIGTERM does not end
HOLDER = """
from flows.repro import lines_of, only_writer
with only_writer():
    for line in lines_of("repro"):
        print(line, flush=True)
"""


@pytest.fixture
def pipeline(tmp_path, monkeypatch, dvc):
    """Make a pipeline whose one stage is this command, and be in it."""
    monkeypatch.chdir(tmp_path)
    dvc(tmp_path, "init", "--no-scm", "--quiet")

    def make(command):
        (tmp_path / "dvc.yaml").write_text(f"stages:\n  only:\n    cmd: '{command}'\n", "utf-8")

    return make


def number_in(lines):
    """The first that a line of the stage's says."""
    return next(int(line.split()[1]) for line in lines if line.startswith("number "))


def test_stage_that_ignores_sigterm_is_killed_where_its_lines_are_left(pipeline):
    pipeline(DEAF)
    lines = lines_of("repro")
    stage = number_in(lines)
    lines.close()
    assert not is_running(stage)


def test_workspace_of_a_run_that_was_killed_is_free_once_its_stage_is_gone(pipeline):
    """The run is as Prefect starts one: nothing is around it."""
    pipeline(DEAF)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", HOLDER], env=environment, stdout=subprocess.PIPE, text=True) as run:
        stage = number_in(run.stdout)
        run.send_signal(signal.SIGKILL)
        run.wait()
        with only_writer():
            assert not is_running(stage)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("stages\n  only:\n", r"dvc.yaml' is invalid.*in line 2.*mend that file"),
        ("stages:\n  only:\n    comd: x\n", r"dvc.yaml' validation failed.*comd.*mend that file"),
    ],
)
def test_file_that_dvc_cannot_read_is_named_with_what_to_do(pipeline, content, found):
    pipeline("true")
    Path("dvc.yaml").write_text(content, "utf-8")
    with pytest.raises(DvcError, match=found):
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
