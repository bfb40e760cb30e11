"""A crash costs time and nothing else: on a real project, with real Prefect servers."""

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from benchmarks.chaos import RUN as RETRAIN
from benchmarks.chaos import WAYS, kill_and_finish
from benchmarks.chaos import contents as outcome
from benchmarks.kit.prefect_server import prefect_server
from benchmarks.kit.process_tree import descendants, is_running
from flows.workspace.hold import only_writer
from flows.workspace.paths import stages
from tests.kit.programs import SECONDS, run
from tests.kit.watching import until

ROOT = Path(__file__).parents[2]
CHANGED = ("backbone_learning_rate", 0.0001)
BY_HAND = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "SHELL": "/bin/sh"}


def contents(project, *names):
    """Return the bytes of these files and folders, by path."""
    files = [file for name in names for file in [project / name, *(project / name).rglob("*")] if file.is_file()]
    return {file.relative_to(project): file.read_bytes() for file in files}


def start(project, command=RETRAIN, **environment):
    return subprocess.Popen(
        command,
        cwd=project,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def at_work(process, stage):
    """Wait until a run is in that stage, and return the processes that it started."""
    until(lambda: any(f"-m tasks.{stage} " in command for command in descendants(process.pid).values()))
    return descendants(process.pid)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The environment of runs that use a running Prefect server."""
    with prefect_server(tmp_path_factory.mktemp("server")) as environment:
        yield environment


@pytest.fixture(scope="module")
def undisturbed(finished, tmp_path_factory, set_param, server):
    """The project after an undisturbed run, not committed. Copy it, never change it."""
    copy = shutil.copytree(finished, tmp_path_factory.mktemp("undisturbed") / "project", symlinks=True)
    set_param(copy, *CHANGED)
    assert retrained(copy, server).returncode == 0
    return copy


def retrained(project, environment):
    return run(*RETRAIN, status=None, cwd=project, env=environment)


@pytest.fixture
def stale(project, set_param):
    """A project in which finetune and the stages after it are stale."""
    set_param(project, *CHANGED)
    return project


def test_sigterm_ends_a_run_and_its_processes_within_ten_seconds(stale):
    process = start(stale)
    started = at_work(process, "finetune")
    assert any("uvicorn" in command for command in started.values())  # the temporary server of Prefect
    before = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=SECONDS)
    until(lambda: not any(map(is_running, started)), seconds=10)
    assert time.monotonic() - before < 10
    assert process.returncode != 0


def test_sigterm_ends_a_run_without_its_prefect_server_within_ten_seconds(stale, tmp_path):
    with prefect_server(tmp_path / "home") as environment:
        process = start(stale, **environment)
        started = at_work(process, "finetune")
    process.send_signal(signal.SIGTERM)
    until(lambda: process.poll() is not None and not any(map(is_running, started)), seconds=10)
    process.communicate(timeout=SECONDS)


def test_killed_run_leaves_no_process_behind(stale):
    process = start(stale)
    started = at_work(process, "finetune")
    process.kill()
    process.communicate(timeout=SECONDS)
    until(lambda: not any(map(is_running, started)), seconds=10)


def test_stage_ends_when_dvc_alone_is_killed_and_the_run_reports_that(stale):
    process = start(stale)
    started = at_work(process, "finetune")
    [dvc] = [pid for pid, command in started.items() if "-m dvc" in command]
    os.kill(dvc, signal.SIGKILL)
    printed, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    # a stage that still imports prints it itself
    assert re.search("finetune: (dvc repro exited with -9|the DVC that started this was killed)", printed), printed
    assert not any(is_running(pid) for pid, command in started.items() if "-m tasks." in command)


@pytest.mark.parametrize("seconds", [0.0, 0.2, 1.0])
def test_stage_that_just_began_ends_before_the_workspace_of_a_killed_run_is_free(stale, server, monkeypatch, seconds):
    """The run has no process around it, like those that Prefect starts; and the stage still imports."""
    process = start(stale, WAYS["deployment"], **server)
    at_work(process, "finetune")
    time.sleep(seconds)
    started = [
        pid for pid, command in descendants(process.pid).items() if "-m tasks." in command or "-m dvc" in command
    ]
    process.kill()
    process.communicate(timeout=SECONDS)
    monkeypatch.chdir(stale)
    with only_writer():
        assert not any(map(is_running, started))


def test_stage_that_just_began_does_nothing_for_a_killed_dvc(stale, tmp_path):
    """A person runs DVC by hand."""
    shutil.rmtree(stale / "data/scratch")
    output = tmp_path / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"], cwd=stale, stdout=file, stderr=file, env=BY_HAND
        )
    [stage] = [pid for pid, command in at_work(process, "finetune").items() if "-m tasks.finetune" in command]
    process.kill()
    process.wait(timeout=SECONDS)
    until(lambda: not is_running(stage))
    assert not (stale / "data/scratch").exists()
    assert output.read_text("utf-8").splitlines()[-1] == "error: the DVC that started this was killed: run it again"


def test_run_that_is_killed_again_and_again_makes_the_same_bytes(finished, undisturbed, server, tmp_path, set_param):
    """The seed kills a stage; DVC while it writes dvc.lock; and a run like those of Prefect whose stage just began."""
    template = shutil.copytree(finished, tmp_path / "template", symlinks=True)
    set_param(template, *CHANGED)
    kills = kill_and_finish(template, tmp_path / "copy", server, random.Random(115), 8.0, outcome(undisturbed))
    assert kills
    assert all(kill["is_identical"] for kill in kills), kills


@pytest.mark.parametrize("cut", [0, 8192, -20, b"    outs:", b"  train_head:"])
def test_dvc_lock_that_is_cut_off_is_restored_by_the_next_run(undisturbed, server, tmp_path, cut):
    """A kill while DVC writes leaves an empty file, a part that is not YAML, or YAML without a stage or its outputs."""
    copy = shutil.copytree(undisturbed, tmp_path / "copy", symlinks=True)
    lock = copy / "dvc.lock"
    whole = lock.read_bytes()
    lock.write_bytes(whole[: whole.rindex(cut) if isinstance(cut, bytes) else cut])
    done = retrained(copy, server)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing to do" in done.stdout + done.stderr
    assert outcome(copy) == outcome(undisturbed)


def test_stages_finished_since_the_kept_dvc_lock_come_from_the_run_cache(undisturbed, server, tmp_path):
    copy = shutil.copytree(undisturbed, tmp_path / "copy", symlinks=True)
    (copy / ".dvc/tmp/graftline-dvc.lock").unlink()
    (copy / "dvc.lock").write_bytes(b"")
    done = retrained(copy, server)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Stage 'finetune' is cached" in done.stdout + done.stderr
    assert "Running stage" not in done.stdout + done.stderr
    assert outcome(copy) == outcome(undisturbed)


def test_second_run_in_a_workspace_is_refused_and_the_first_ends_undisturbed(stale, undisturbed, server):
    first = start(stale, **server)
    at_work(first, "finetune")
    second = retrained(stale, server)
    assert second.returncode == 1
    assert f"process {first.pid} is at work in" in second.stdout + second.stderr
    first.communicate(timeout=SECONDS)
    assert first.returncode == 0
    assert outcome(stale) == outcome(undisturbed)


def test_run_that_loses_its_prefect_server_ends_and_the_next_completes_it(stale, undisturbed, server, tmp_path):
    with prefect_server(tmp_path / "home") as environment:
        process = start(stale, **environment, PREFECT_CLIENT_MAX_RETRIES="1")
        started = at_work(process, "finetune")
    printed, _ = process.communicate(timeout=SECONDS)
    assert process.returncode != 0, printed
    until(lambda: not any(map(is_running, started)), seconds=10)
    assert retrained(stale, server).returncode == 0
    assert outcome(stale) == outcome(undisturbed)


@pytest.mark.parametrize(
    ("stage", "lost"),
    [
        *((stage, None) for stage in stages(ROOT / "dvc.yaml")),
        ("embed", "data/store"),  # a complete store is not written to
        ("finetune", "data/scratch"),
    ],
)
def test_full_disk_fails_a_stage_and_damages_no_earlier_output(project, stage, lost):
    """A shell runs the stage; no file may grow beyond 200 bytes."""
    if lost:
        shutil.rmtree(project / lost)
    declared = yaml.safe_load((project / "dvc.yaml").read_text("utf-8"))["stages"][stage]
    outs = [out.replace("${item.batch}", "first") for out in declared["outs"]]
    before = contents(project, *outs)
    assert before
    command = ["/bin/sh", "-c", declared["cmd"].replace("${item.batch}", "first").replace("\\$", "$")]

    def run_stage(*, status, **options):
        return run(*command, status=status, cwd=project, env=BY_HAND, **options)

    failed = run_stage(status=1, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200)))
    assert failed.stderr.splitlines()[-1].startswith("error: "), failed.stderr
    assert contents(project, *outs) == before
    assert not list((project / "data").rglob(".*.part"))
    run_stage(status=0)
    assert contents(project, *outs) == before


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, of 64 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = run("mount", "-t", "tmpfs", "-o", "size=64m", "none", place, status=None)
    if mounted.returncode != 0:
        pytest.skip(f"only root may mount a small disk: {mounted.stderr.strip()}")
    yield place
    run("umount", "--lazy", place)


@pytest.mark.parametrize("kilobytes", [4, 300])
def test_run_on_a_disk_that_fills_up_reports_it_and_the_next_run_completes_it(
    finished, undisturbed, server, small_disk, set_param, kilobytes
):
    """The stages, DVC and its cache all write to that disk."""
    project = shutil.copytree(finished, small_disk / "project", symlinks=True)
    set_param(project, *CHANGED)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 1024 * kilobytes))
    failed = retrained(project, server)
    assert failed.returncode == 1
    assert "No space left on device" in failed.stdout + failed.stderr
    ballast.unlink()
    done = retrained(project, server)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcome(project) == outcome(undisturbed)


def test_files_from_the_past_and_from_the_future_make_nothing_stale(project, dvc):
    """A clock that jumped leaves such files."""
    for number, path in enumerate(sorted((project / "data").rglob("*"))):
        when = (0, 4_000_000_000)[number % 2]  # 1970, and 2096
        os.utime(path, (when, when), follow_symlinks=False)
    assert "Running stage" not in dvc(project, "repro")


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can run something as another user, by setpriv"
)
def test_run_of_another_user_with_read_only_raw_data_succeeds(stale, tmp_path):
    """The user may read everything, because Python may be in a home folder."""
    nobody = 65534
    as_nobody = ["setpriv", f"--reuid={nobody}", f"--regid={nobody}", "--clear-groups"]
    as_nobody += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    for path in [stale, *stale.rglob("*")]:
        if not path.is_symlink() and "raw" not in path.parts:
            os.chown(path, nobody, nobody)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, nobody, nobody)
    run(*as_nobody, *RETRAIN, cwd=stale, env=os.environ | {"HOME": str(home), "PREFECT_HOME": str(home / "prefect")})
    assert json.loads((stale / "data/regression/verdict.json").read_text("utf-8"))["verdict"] == "accepted"
    assert (stale / "data/regression/verdict.json").stat().st_uid == nobody
