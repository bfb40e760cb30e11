"""The set-up for several machines: a real work pool with a worker, and a Prefect server with a real Postgres."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from benchmarks.kit.prefect_server import free_port, prefect_server
from tests.kit.programs import SECONDS, run, run_module
from tests.kit.watching import Server, die_with_the_tests, hurried, until

NOBODY = 65534


def programs() -> Path | None:
    """Return the folder of Postgres' programs, if it is installed; Debian has them on no path."""
    folders = [*map(Path, os.get_exec_path()), *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    return next(((folder / "initdb").resolve().parent for folder in folders if (folder / "initdb").exists()), None)


@pytest.fixture(scope="module")
def postgres():
    """The address of a database of the test's own."""
    if not (bin_folder := programs()):
        pytest.skip("there is no Postgres: apt-get install postgresql")
    password = secrets.token_hex()
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder, free_port() as port:
        as_user = {"cwd": folder}
        (Path(folder) / "password").write_text(password, "utf-8")
        if os.getuid() == 0:  # Postgres refuses to run as root
            as_user |= {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            for path in (folder, f"{folder}/password"):
                os.chown(path, NOBODY, NOBODY)
        make = ["--pgdata=data", "--username=graftline", "--auth=scram-sha-256", "--pwfile=password", "--no-sync"]
        run(bin_folder / "initdb", *make, **as_user)
        serve = ["-D", "data", "-h", "127.0.0.1", "-p", str(port), "-c", "unix_socket_directories="]
        with (Path(folder) / "log").open("wb") as log:
            server = subprocess.Popen(
                [bin_folder / "postgres", *serve], **as_user, preexec_fn=die_with_the_tests, stdout=log, stderr=log
            )
        try:
            ready = [bin_folder / "pg_isready", "--host=127.0.0.1", f"--port={port}", "--quiet"]
            until(lambda: run(*ready, status=None).returncode == 0)
            yield f"postgresql+asyncpg://graftline:{password}@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # a fast shutdown: it waits for no client
            server.wait(timeout=60)


@pytest.fixture(scope="module")
def server(postgres, tmp_path_factory):
    home = tmp_path_factory.mktemp("prefect")
    with prefect_server(home, PREFECT_API_DATABASE_CONNECTION_URL=postgres) as environment:
        yield Server(home, environment)


def test_what_lands_starts_a_run_of_a_worker_of_the_pool_and_postgres_keeps_the_runs(
    finished, server, set_param, tmp_path
):
    """The batch of a finished project lands anew, after a change that has it evaluated, judged and reported anew."""
    workspace, landing = hurried(finished, tmp_path / "workspace", seconds=30), tmp_path / "landing"
    landing.mkdir()
    set_param(workspace, "perturbations", "[recompressed]")
    shutil.move(workspace / "data/raw/first", landing / "first")
    (workspace / "data/raw/first.dvc").unlink()
    (workspace / "data/batches.yaml").write_text("batches: []\n", "utf-8")
    (landing / "first/_COMPLETE").touch()
    # the server's address alone: a worker knows no database
    environment = server.environment | {"GRAFTLINE_LANDING": str(landing), "PREFECT_WORKER_QUERY_SECONDS": "1"}
    del environment["PREFECT_API_DATABASE_CONNECTION_URL"]
    for command in (["prefect", "work-pool", "create", "--type", "process", "graftline"], ["flows.deploy"]):
        run_module(*command, cwd=workspace, env=environment)
    worker = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", "graftline"],
        cwd=workspace,
        env=environment,
        start_new_session=True,
        preexec_fn=die_with_the_tests,
    )
    try:
        [retraining, *_] = server.until(lambda: server.runs("retrain", "Completed", "Failed", "Crashed"))
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(timeout=SECONDS)
    assert retraining["state"]["message"] == "the candidate is accepted"
    assert retraining["work_pool_name"] == "graftline"
    validation = json.loads((workspace / "data/validated/validation.json").read_text("utf-8"))
    assert list(validation["batches"]) == ["first"]
    measured = json.loads((workspace / "data/evaluation/metrics.json").read_text("utf-8"))["label"]["candidate"]
    assert list(measured["unchanged"]) == ["recompressed"]
    assert not list(server.home.rglob("*.db"))  # as SQLite would be
