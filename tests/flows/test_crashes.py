"""What a crash costs: time, and nothing else. On a real project, with real Prefect servers."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from benchmarks.prefect_server import prefect_server
from benchmarks.process_tree import descendants, is_running
from flows.repro import stages

ROOT = Path(__file__).parents[2]
RETRAIN = [sys.executable, "-m", "flows.retrain"]
SECONDS = 600.0  # that something may take at most


def contents(project, *names):
    """By path, the bytes of these files and folders."""
    files = [file for name in names for file in [project / name, *(project / name).rglob("*")] if file.is_file()]
    return {file.relative_to(project): file.read_bytes() for file in files}


def start(project, **environment):
    return subprocess.Popen(
        RETRAIN,
        cwd=project,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(what, seconds=SECONDS):
    """Until it is true, and what it is then; a test fails where it never is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


def at_work(run, stage):
    """Wait until a run is in that stage, and return all that it started."""
    wait_for(lambda: any(f"-m tasks.{stage} " in command for command in descendants(run.pid).values()))
    return descendants(run.pid)


@pytest.fixture
def stale(project, set_param):
    """A project in which finetune and what follows is to be run."""
    set_param(project, "backbone_learning_rate", 0.0001)
    return project


def test_sigterm_ends_a_run_and_all_that_it_started_within_ten_seconds(stale):
    run = start(stale)
    started = at_work(run, "finetune")
    assert any("uvicorn" in command for command in started.values())  # the temporary server of Prefect
    before = time.monotonic()
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=SECONDS)
    wait_for(lambda: not any(map(is_running, started)), seconds=10)
    assert time.monotonic() - before < 10
    assert run.returncode != 0


def test_killed_run_leaves_no_process_behind(stale):
    run = start(stale)
    started = at_work(run, "finetune")
    run.kill()
    run.communicate(timeout=SECONDS)
    wait_for(lambda: not any(map(is_running, started)), seconds=10)


def test_stage_ends_where_dvc_alone_is_killed_and_the_run_says_so(stale):
    run = start(stale)
    started = at_work(run, "finetune")
    [dvc] = [pid for pid, command in started.items() if "-m dvc" in command]
    os.kill(dvc, signal.SIGKILL)
    said, _ = run.communicate(timeout=SECONDS)
    assert run.returncode == 1
    assert "finetune: dvc repro exited with -9" in said
    assert not any(is_running(pid) for pid, command in started.items() if "-m tasks." in command)


def test_run_whose_prefect_server_goes_away_ends_and_the_next_finishes_it(stale, tmp_path):
    undisturbed = shutil.copytree(stale, tmp_path / "undisturbed", symlinks=True)
    assert subprocess.run(RETRAIN, cwd=undisturbed, capture_output=True, check=False).returncode == 0
    with prefect_server(tmp_path / "home") as environment:
        run = start(stale, **environment, PREFECT_CLIENT_MAX_RETRIES="1")
        started = at_work(run, "finetune")
    said, _ = run.communicate(timeout=SECONDS)
    assert run.returncode != 0, said
    wait_for(lambda: not any(map(is_running, started)), seconds=10)
    assert subprocess.run(RETRAIN, cwd=stale, capture_output=True, check=False).returncode == 0
    compared = ("dvc.lock", "data/models/candidate", "data/regression", "data/report", "data/decisions.json")
    assert contents(stale, *compared) == contents(undisturbed, *compared)


@pytest.mark.parametrize("stage", stages(ROOT / "dvc.yaml"))
def test_full_disk_costs_a_stage_its_run_and_nothing_that_was_there(project, stage):
    """As the shell runs the stage; no file may grow beyond 200 bytes."""
    declared = yaml.safe_load((project / "dvc.yaml").read_text("utf-8"))["stages"][stage]
    outs = [out.replace("${item.batch}", "first") for out in declared["outs"]]
    before = contents(project, *outs)
    assert before
    command = ["/bin/sh", "-c", declared["cmd"].replace("${item.batch}", "first").replace("\\$", "$")]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(**options):
        return subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True, check=False, **options
        )

    failed = run(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200)))
    assert failed.returncode == 1, failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("error: "), failed.stderr
    assert contents(project, *outs) == before
    assert not list((project / "data").rglob(".*.part"))
    assert run().returncode == 0
    assert contents(project, *outs) == before


def test_clock_that_jumped_makes_nothing_stale(project, dvc):
    for number, path in enumerate(sorted((project / "data").rglob("*"))):
        when = (0, 4_000_000_000)[number % 2]  # 1970, and 2096
        os.utime(path, (when, when), follow_symlinks=False)
    assert "Running stage" not in dvc(project, "repro")


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can run something as another user, by setpriv"
)
def test_another_user_runs_it_with_raw_data_that_it_may_only_read(stale, tmp_path):
    """It may read all, so that the interpreter of these tests can stand in somebody's home."""
    nobody = 65534
    as_nobody = ["setpriv", f"--reuid={nobody}", f"--regid={nobody}", "--clear-groups"]
    as_nobody += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    for path in [stale, *stale.rglob("*")]:
        if not path.is_symlink() and "raw" not in path.parts:
            os.chown(path, nobody, nobody)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, nobody, nobody)
    done = subprocess.run(
        [*as_nobody, *RETRAIN],
        cwd=stale,
        env=os.environ | {"HOME": str(home), "PREFECT_HOME": str(home / "prefect")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((stale / "data/regression/verdict.json").read_text("utf-8"))["verdict"] == "accepted"
    assert (stale / "data/regression/verdict.json").stat().st_uid == nobody
