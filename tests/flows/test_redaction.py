"""What may be printed, and what never is."""

import os
import subprocess
import sys

import pytest

from flows.redaction import redactor
from flows.workspace import commit

SECRET = "pl4nted" + "-s3cret-9f2c"  # in two parts: this file is in the working copy, too


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        (
            f"fatal: unable to access 'https://x:{SECRET}@host/p.git/': no",
            "fatal: unable to access 'https://***@host/p.git/': no",
        ),
        (f"https://{SECRET}@host/p.git", "https://***@host/p.git"),
        (f"postgresql+asyncpg://user:a@{SECRET}@host:5432/prefect", "postgresql+asyncpg://***@host:5432/prefect"),
        (f"https://host/f?X-Amz-Signature={SECRET}&b=1", "https://host/f?X-Amz-Signature=***&b=1"),
        (f"Authorization: Bearer {SECRET}", "Authorization: Bearer ***"),
        (f"{{'Authorization': 'Bearer {SECRET}'}}", "{'Authorization': 'Bearer ***'}"),
        (f"https://x:it's{SECRET}@host/p.git", "https://***@host/p.git"),
        ("ssh://git@host/p.git and git@host:p.git", "ssh://git@host/p.git and git@host:p.git"),
        ("sample data/raw/first/9/0069.png is missing", "sample data/raw/first/9/0069.png is missing"),
    ],
)
def test_address_keeps_its_host_and_loses_its_password(printed, told):
    assert redactor()(printed) == told


@pytest.mark.parametrize(
    "name", ["AWS_SECRET_ACCESS_KEY", "GRAFTLINE_WEBHOOK", "GRAFTLINE_GITLAB_TOKEN", "AZURE_STORAGE_CONNECTION_STRING"]
)
def test_value_of_a_secret_variable_is_hidden_wherever_it_is_printed(monkeypatch, name):
    monkeypatch.setenv(name, SECRET)
    assert redactor()(f"<{SECRET}>") == "<***>"


def test_variable_that_is_no_secret_is_printed(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("GOOGLE_TOKEN_FILE", "/etc/token")
    assert redactor()("eu-central-1 /etc/token") == "eu-central-1 /etc/token"


@pytest.mark.parametrize("password", [SECRET, f"a,{SECRET}#1"])
def test_password_that_dvc_was_told_is_hidden(workspace, dvc, password):
    dvc(workspace, "remote", "add", "store", "https://127.0.0.1/store")
    dvc(workspace, "remote", "modify", "--local", "store", "password", password)
    assert redactor()(f"refused: {password}") == "refused: ***"


def places(folder, *, but):
    """The files that hold the secret."""
    files = [path for path in folder.rglob("*") if path.is_file() and path not in but]
    return [str(path.relative_to(folder)) for path in files if SECRET.encode() in path.read_bytes()]


def test_no_secret_leaves_the_place_where_its_user_put_it(project, tmp_path, dvc, set_param):
    """A run that cannot reach DVC's remote, one that cannot reach git's, and one that reaches both."""
    hub, home = tmp_path / "hub.git", tmp_path / "prefect"
    subprocess.run(["git", "init", "--quiet", "--bare", str(hub)], check=True)
    address = f"http://x:{SECRET}@127.0.0.1:9/hub.git"
    subprocess.run(["git", "remote", "add", "origin", address], cwd=project, check=True)
    dvc(project, "remote", "add", "far", "s3://door/store")
    dvc(project, "remote", "modify", "far", "endpointurl", "http://127.0.0.1:9")
    for key, value in {"access_key_id": "somebody", "secret_access_key": SECRET}.items():
        dvc(project, "remote", "modify", "--local", "far", key, value)
    set_param(project, "min_accuracy", 0.4)
    commit(project, "A lower floor")

    def retrain():
        environment = os.environ | {
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": "",
            "PYTHONPATH": str(project),
            "GRAFTLINE_RETRY_SECONDS": "0",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "GRAFTLINE_WEBHOOK": f"http://127.0.0.1:9/{SECRET}",
        }
        command = [sys.executable, "-m", "flows.retrain", "--publish-to", "main"]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        printed = done.stdout + done.stderr
        assert SECRET not in printed
        return done.returncode, printed

    dvc(project, "remote", "default", "far")
    commit(project, "The remote that is not")
    status, printed = retrain()
    assert status == 1
    assert "127.0.0.1:9" in printed
    assert "the candidate is accepted; not published: " in printed
    dvc(project, "remote", "default", "store")
    commit(project, "The remote that is there")
    status, printed = retrain()
    assert status == 1
    assert "git cannot push to origin (fatal: unable to access 'http://" in printed
    subprocess.run(["git", "config", f"url.file://{hub}.insteadOf", address], cwd=project, check=True)
    status, printed = retrain()
    assert status == 0, printed
    assert places(project, but=[project / ".dvc/config.local", project / ".git/config"]) == []
    assert places(home, but=[]) == []
    assert (home / "prefect.db").is_file()
    assert places(hub, but=[]) == []
