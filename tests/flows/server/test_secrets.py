"""A secret in a Prefect block reaches what a run starts, and nothing else: with real servers of Prefect and S3."""

import json
import os
import subprocess
import sys

import boto3
import pytest
import yaml
from prefect.blocks.system import Secret

from benchmarks.kit.prefect_server import prefect_server
from flows.workspace.working_copy import commit
from tests.kit.programs import git, run_module
from tests.kit.watching import Server

KEY = "pl4nted" + "-key-7d1e"  # in two parts: the working copy has this file too
LOGIN = "pl4nted" + "-login-0b6a"
SECRETS = {"AWS_SECRET_ACCESS_KEY": "store-key", "STORE_LOGIN": "store-login"}

# a careless program that prints a secret
STAGE = """\
  careless:
    cmd: echo "the login is $STORE_LOGIN"
    deps: [params.yaml]
"""


@pytest.fixture(scope="module")
def server(new_home):
    """A Prefect server in which both blocks are saved."""
    home = new_home()
    with prefect_server(home) as environment:
        server = Server(home, environment)
        server.save(Secret(value=KEY), "store-key")
        server.save(Secret(value=LOGIN), "store-login")
        yield server


@pytest.fixture
def environment(server, bucket, monkeypatch):
    """The environment of a run that needs the block's key to reach the bucket."""
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    settings = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return {name: value for name, value in server.environment.items() if name not in SECRETS} | settings


def ingest(workspace, environment, secret):
    command = ("flows.ingest", "s3://door/land", "--quiet-seconds", "0", "--secret", secret)
    return run_module(*command, status=None, cwd=workspace, env=environment)


def test_landing_is_read_with_the_key_of_a_block_that_the_command_names(environment, workspace, bucket):
    bucket("land/first/cat/1.png", b"a cat")
    done = ingest(workspace, environment, "AWS_SECRET_ACCESS_KEY=store-key")
    assert done.returncode == 0, done.stderr
    assert (workspace / "data/raw/first/cat/1.png").read_bytes() == b"a cat"
    assert KEY not in done.stdout + done.stderr


def test_missing_block_is_reported_in_one_line(environment, workspace):
    done = ingest(workspace, environment, "AWS_SECRET_ACCESS_KEY=nowhere")
    assert done.returncode == 1
    assert "no Secret block nowhere is saved in Prefect, and AWS_SECRET_ACCESS_KEY is to come from it: " in done.stderr
    assert "Traceback" not in done.stderr


def test_value_that_is_not_the_name_of_a_block_is_refused_and_not_shown(environment, workspace):
    done = ingest(workspace, environment, f"AWS_SECRET_ACCESS_KEY={KEY.upper()}")
    assert done.returncode == 2
    assert "expected a variable and the name of a block" in done.stderr
    assert KEY.upper() not in done.stdout + done.stderr


def test_served_run_pushes_with_the_key_of_a_block_and_nobody_else_sees_it(
    server, environment, project, tmp_path, dvc, set_param, files_with
):
    hub = tmp_path / "hub.git"
    git("init", "--quiet", "--bare", hub)
    git("remote", "add", "origin", hub, folder=project)
    dvc(project, "remote", "add", "--force", "--default", "store", "s3://door/models")
    stages = (project / "dvc.yaml").read_text("utf-8")
    (project / "dvc.yaml").write_text(stages.replace("\nstages:\n", f"\nstages:\n{STAGE}", 1), "utf-8")
    plan = yaml.safe_load((project / "prefect.yaml").read_text("utf-8"))
    plan["deployments"] = plan["deployments"][:1]
    plan["deployments"][0]["parameters"] |= {"publish_to": "main", "secrets": SECRETS}
    (project / "prefect.yaml").write_text(yaml.safe_dump(plan), "utf-8")
    set_param(project, "min_accuracy", 0.4)
    commit(project, "A remote, a login and a lower floor")

    with (tmp_path / "serve.log").open("w") as log:
        command = [sys.executable, "-m", "flows.serve"]
        serving = subprocess.Popen(command, cwd=project, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        server.until(lambda: ended(server) or serving.poll() is not None)
    finally:
        serving.terminate()
        serving.wait(timeout=60)
    [retraining, *_] = ended(server)
    assert retraining["state"]["message"] == "the candidate is accepted"
    assert retraining["parameters"]["secrets"] == SECRETS
    assert "the login is ***" in [line["message"] for line in server.post("logs/filter")]

    kept = [
        server.post(f"{what}/filter")
        for what in ("deployments", "flow_runs", "task_runs", "logs", "artifacts", "block_documents", "events")
    ]
    client = boto3.client("s3", aws_access_key_id="any", aws_secret_access_key="any")  # noqa: S106  moto takes any
    objects = client.list_objects_v2(Bucket="door", Prefix="models")["Contents"]
    stored = [client.get_object(Bucket="door", Key=entry["Key"])["Body"].read() for entry in objects]
    assert stored
    for secret in (KEY, LOGIN):
        assert secret not in json.dumps(kept)
        assert [content for content in stored if secret.encode() in content] == []
        assert files_with(secret, tmp_path) == []  # the project, the git remote, the log of flows.serve
        assert (server.home / "prefect.db").is_file()
        assert files_with(secret, server.home) == []


def ended(server):
    """Return the retrainings that ended."""
    return server.runs("retrain", "Completed", "Failed", "Crashed")
