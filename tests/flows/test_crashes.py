"""A crash costs time and nothing else: on a real project, with real Prefect servers."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
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
from tests.kit.sharing import copied
from tests.kit.verbs import run_verb
from tests.kit.warm_starts import KINDS, STAGES
from tests.kit.watching import until

ROOT = Path(__file__).parents[2]
LEAN_DVC = "-m flows.workspace.lean dvc"
SHELL = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "SHELL": "/bin/sh"}


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
    found = {}

    def is_there():
        found.clear()
        found.update(descendants(process.pid))
        return any(f"-m tasks.{stage} " in command for command in found.values())

    until(is_there)
    return found


@pytest.fixture(scope="module", autouse=True)
def warm_starts(new_home, undisturbed):
    """The settings with which programs start warm. Without them each is a process that the run or its DVC started.

    Runs without a server keep what Prefect knows of them in a folder of this module's own.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(new_home()))
        settings = {name: os.environ[name] for name in KINDS}
        for name in settings:
            patch.delenv(name)
        yield settings


@pytest.fixture(scope="module")
def served(new_home, warm_starts):
    """A context in which there is another Prefect server, with the environment of runs that have it."""

    @contextmanager
    def serve():
        with prefect_server(new_home(), **warm_starts) as environment:
            yield {name: value for name, value in environment.items() if name not in warm_starts}

    return serve


@pytest.fixture(scope="module")
def server(served):
    """The environment of runs that have a Prefect server."""
    with served() as environment:
        yield environment


@pytest.fixture
def warm_environment(server, warm_starts):
    """The environment of runs of which no test looks at the processes of the stages."""
    return server | {STAGES: warm_starts[STAGES]}


@pytest.fixture
def retrained(server, warm_starts):
    """Retrain a project to the end. No test looks at the processes of such a run."""
    return lambda project: run(*RETRAIN, status=None, cwd=project, env=server | warm_starts)


@pytest.fixture
def copy_of_undisturbed(undisturbed, tmp_path):
    return copied(undisturbed / "project", tmp_path / "copy")


@pytest.fixture(scope="session")
def expected(undisturbed):
    """Return what an undisturbed run leaves."""
    return outcome(undisturbed / "project")


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


def test_sigterm_ends_a_run_whose_prefect_server_is_gone_as_soon(stale, served):
    with served() as environment:
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


def test_stage_ends_where_dvc_alone_is_killed_and_the_run_says_so(stale, server):
    process = start(stale, **server)
    started = at_work(process, "finetune")
    [dvc] = [pid for pid, command in started.items() if LEAN_DVC in command and "-m tasks." not in command]
    os.kill(dvc, signal.SIGKILL)
    printed, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    # a stage that still imports prints it itself
    assert re.search("finetune: (dvc repro exited with -9|the DVC that started this was killed)", printed), printed
    assert not any(is_running(pid) for pid, command in started.items() if "-m tasks." in command)


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_stage_that_just_began_is_gone_before_the_workspace_of_a_killed_run_is_free(
    stale, server, monkeypatch, seconds
):
    """The run is started as Prefect starts one, with nothing around the flow, and the stage still imports."""
    process = start(stale, WAYS["deployment"], **server)
    at_work(process, "finetune")
    time.sleep(seconds)
    started = [
        pid for pid, command in descendants(process.pid).items() if "-m tasks." in command or LEAN_DVC in command
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
            [sys.executable, "-m", "dvc", "repro"], cwd=stale, stdout=file, stderr=file, env=os.environ | SHELL
        )
    [stage] = [pid for pid, command in at_work(process, "finetune").items() if "-m tasks.finetune" in command]
    process.kill()
    process.wait(timeout=SECONDS)
    until(lambda: not is_running(stage))
    assert not (stale / "data/scratch").exists()
    assert output.read_text("utf-8").splitlines()[-1] == "error: the DVC that started this was killed: run it again"


def test_run_that_is_killed_again_and_again_ends_in_the_same_bytes(stale, expected, server, warm_starts, tmp_path):
    """The kills hit a stage, DVC while it writes dvc.lock, or a run while Prefect starts it, by chance."""
    last = server | warm_starts
    kills = kill_and_finish(stale, tmp_path / "copy", server, random.Random(115), 8.0, expected, last=last)
    assert kills
    assert all(kill["is_identical"] for kill in kills), kills


@pytest.mark.parametrize("cut", [0, b"    outs:"])
def test_dvc_lock_that_is_cut_off_is_made_whole_by_the_next_run(copy_of_undisturbed, expected, retrained, cut):
    """A kill while DVC writes leaves an empty file, or YAML that lacks the outputs of a stage.

    tests/flows/workspace/test_lockfile.py cuts the file everywhere.
    """
    lock = copy_of_undisturbed / "dvc.lock"
    whole = lock.read_bytes()
    lock.write_bytes(whole[: whole.rindex(cut) if isinstance(cut, bytes) else cut])
    done = retrained(copy_of_undisturbed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing to do" in done.stdout + done.stderr
    assert outcome(copy_of_undisturbed) == expected


def test_what_was_finished_since_dvc_lock_was_last_kept_comes_from_the_run_cache(
    copy_of_undisturbed, expected, retrained
):
    (copy_of_undisturbed / ".dvc/tmp/graftline-dvc.lock").unlink()
    (copy_of_undisturbed / "dvc.lock").write_bytes(b"")
    done = retrained(copy_of_undisturbed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Stage 'finetune' is cached" in done.stdout + done.stderr
    assert "Running stage" not in done.stdout + done.stderr
    assert outcome(copy_of_undisturbed) == expected


def test_second_run_beside_another_is_refused_and_the_first_ends_undisturbed(
    stale, expected, warm_environment, retrained
):
    first = start(stale, **warm_environment)
    at_work(first, "finetune")
    second = retrained(stale)
    assert second.returncode == 1
    assert f"process {first.pid} is at work in" in second.stdout + second.stderr
    first.communicate(timeout=SECONDS)
    assert first.returncode == 0
    assert outcome(stale) == expected


def test_run_whose_prefect_server_goes_away_ends_and_the_next_finishes_it(
    stale, expected, retrained, served, warm_environment
):
    with served() as environment:
        process = start(stale, **warm_environment | environment, PREFECT_CLIENT_MAX_RETRIES="1")
        started = at_work(process, "finetune")
    printed, _ = process.communicate(timeout=SECONDS)
    assert process.returncode != 0, printed
    until(lambda: not any(map(is_running, started)), seconds=10)
    assert retrained(stale).returncode == 0
    assert outcome(stale) == expected


@pytest.mark.parametrize(
    ("stage", "lost"),
    [
        *((stage, None) for stage in stages(ROOT / "dvc.yaml") if stage != "digest"),  # whose files are smaller
        ("embed", "data/store"),  # a complete store is not written to
        ("finetune", "data/scratch"),
    ],
)
def test_full_disk_costs_a_stage_its_run_and_nothing_that_was_there(
    project, great_expectations, warm_starts, stage, lost
):
    """No file may grow beyond 200 bytes.

    The shell starts the next run where the bytes depend on the number of threads; elsewhere the next run is a fork.
    """
    if lost:
        shutil.rmtree(project / lost)
    declared = yaml.safe_load((project / "dvc.yaml").read_text("utf-8"))["stages"][stage]
    outs = [out.replace("${item.batch}", "first") for out in declared["outs"]]
    before = contents(project, *outs)
    assert before
    command = declared["cmd"].replace("${item.batch}", "first")
    module, *arguments = command.removeprefix("exec python -m ").split()
    verb = module.removeprefix("tasks.")
    failed = run_verb(verb, arguments, folder=project, max_file_bytes=200)
    assert failed.status == 1
    assert failed.stderr.splitlines()[-1].startswith("error: "), failed.stderr
    assert contents(project, *outs) == before
    assert not list((project / "data").rglob(".*.part"))
    if stage in ("train_head", "finetune"):
        run("/bin/sh", "-c", command, cwd=project, env=os.environ | SHELL | warm_starts)
    else:
        done = run_verb(verb, arguments, folder=project)
        assert done.status == 0, done.stderr
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


def test_run_on_a_disk_that_fills_up_says_so_and_the_next_one_finishes_it(stale, expected, retrained, small_disk):
    """Early or late in all that the run writes: the stages, DVC and its cache."""
    project = copied(stale, small_disk / "project")
    ballast = small_disk / "ballast"
    for kilobytes in (4, 300):
        ballast.unlink(missing_ok=True)
        ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 1024 * kilobytes))
        failed = retrained(project)
        assert failed.returncode == 1, kilobytes
        assert "No space left on device" in failed.stdout + failed.stderr, kilobytes
    ballast.unlink()
    done = retrained(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcome(project) == expected


def test_files_from_the_past_and_from_the_future_make_nothing_stale(project, dvc):
    """A clock that jumped leaves such files."""
    for number, path in enumerate(sorted((project / "data").rglob("*"))):
        when = (0, 4_000_000_000)[number % 2]  # 1970, and 2096
        os.utime(path, (when, when), follow_symlinks=False)
    assert "Running stage" not in dvc(project, "repro")


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can run something as another user, by setpriv"
)
def test_run_of_another_user_with_read_only_raw_data_succeeds(stale, server, tmp_path):
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
    run(*as_nobody, *RETRAIN, cwd=stale, env=server | {"HOME": str(home), "PREFECT_HOME": str(home / "prefect")})
    assert json.loads((stale / "data/regression/verdict.json").read_text("utf-8"))["verdict"] == "accepted"
    assert (stale / "data/regression/verdict.json").stat().st_uid == nobody
