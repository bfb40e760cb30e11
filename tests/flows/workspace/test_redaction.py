"""Secrets are hidden wherever a run prints, and all else is shown."""

import base64
import os
from urllib.parse import quote

import pytest

from benchmarks.kit.prefect_server import prefect_server
from flows.ingest import ingest
from flows.retrain import retrain
from flows.workspace.redaction import NAMED, redactor
from flows.workspace.working_copy import commit
from tests.kit.programs import git, run_module

SECRET = "pl4nted" + "-s3cret-9f2c"  # in two parts: the working copy has this file too


def test_secret_of_other_bytes_than_utf8_is_hidden_too(monkeypatch):
    secret = os.fsdecode(SECRET.encode() + b"\xfc\xff")
    monkeypatch.setenv("DOOR_TOKEN", secret)
    forms = [secret, quote(os.fsencode(secret)), base64.b64encode(os.fsencode(secret)).decode("ascii")]
    assert [SECRET in redactor()(f"got {form}") or form[:30] in redactor()(form) for form in forms] == [False] * 3


@pytest.mark.parametrize(
    ("printed", "shown"),
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
        (f"https://x:pa/{SECRET}@host/p.git", "https://***@host/p.git"),
        (f"https://x:a@b/{SECRET}@host/p.git", "https://***@host/p.git"),
        ("http://127.0.0.1:9000/door/image@2x.png", "http://127.0.0.1:9000/door/image@2x.png"),
        (f"mailtos://smtp.host?user=a&pass={SECRET}&to=b", "mailtos://smtp.host?user=a&pass=***&to=b"),
        (f"Cookie: session={SECRET}; theme=dark", "Cookie: ***"),
        (f'Set-Cookie: session="{SECRET}"; Path=/', "Set-Cookie: ***"),
        (f"{{'cookie': 'session={SECRET}', 'accept': '*/*'}}", "{'cookie': '***', 'accept': '*/*'}"),
        (
            f'{{"headers": "{{\\"Authorization\\": \\"Bearer {SECRET}\\"}}"',
            '{"headers": "{\\"Authorization\\": \\"Bearer ***"}"',
        ),
        (f"Authorization: AWS4-HMAC-SHA256 Credential=a, Signature={SECRET}", "Authorization: AWS4-HMAC-SHA256 ***"),
        (f"X-Vault-Token: {SECRET}", "X-Vault-Token: ***"),
        (f"AccountName=a;AccountKey={SECRET}==;EndpointSuffix=b", "AccountName=a;AccountKey=***;EndpointSuffix=b"),
        (f"BlobEndpoint=a;SharedAccessSignature=sv=1&sig={SECRET}", "BlobEndpoint=a;SharedAccessSignature=***"),
        (f"https://host/f?api_key={SECRET}&b=1", "https://host/f?api_key=***&b=1"),
        (f"https://host/f?a=1&X-API-Key={SECRET}", "https://host/f?a=1&X-API-Key=***"),
        (f"https://host/f?apikey={SECRET}&client_secret={SECRET}", "https://host/f?apikey=***&client_secret=***"),
        (f"https://hooks.slack.com/services/T0/B0/{SECRET} failed", "https://hooks.slack.com/services/*** failed"),
        (f"https://discord.com/api/webhooks/12/{SECRET}", "https://discord.com/api/webhooks/***"),
        (f"https://chat.example.org/hooks/{SECRET}", "https://chat.example.org/hooks/***"),
        (
            f"https://o.webhook.office.com/webhookb2/{SECRET}/IncomingWebhook/1/2",
            "https://o.webhook.office.com/webhookb2/***",
        ),
        ("https://host/f?key_length=12&monkey=3", "https://host/f?key_length=12&monkey=3"),
        ("ssh://git@host/p.git and git@host:p.git", "ssh://git@host/p.git and git@host:p.git"),
        ("sample data/raw/first/9/0069.png is missing", "sample data/raw/first/9/0069.png is missing"),
    ],
)
def test_address_keeps_its_host_and_loses_its_password(printed, shown):
    assert redactor()(printed) == shown


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "GRAFTLINE_WEBHOOK",
        "GRAFTLINE_EMAIL",
        "GRAFTLINE_GITLAB_TOKEN",
        "AZURE_STORAGE_CONNECTION_STRING",
        "PREFECT_API_AUTH_STRING",
        "GDRIVE_CREDENTIALS_DATA",
        "GOOGLE_CREDENTIALS",
        "B2_APPLICATION_KEY",
        "AZURE_STORAGE_KEY",
        "SMTP_PASS",
        "DB_PASS",
        "WEBDAV_PASS",
        "SSHPASS",
        "MYSQL_PWD",
        "SSH_KEY",
        "SSH_PRIVATE_KEY_BASE64",
        "SESSION_COOKIE",
    ],
)
def test_value_of_a_secret_variable_is_hidden(monkeypatch, name):
    monkeypatch.setenv(name, SECRET)
    assert redactor()(f"<{SECRET}>") == "<***>"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_DEFAULT_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("B2_APPLICATION_KEY_ID", "0012ab34cd56"),
        ("GOOGLE_API_KEY_ID", "number-one"),
        ("GOOGLE_TOKEN_FILE", "token.json"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/etc/not-there.json"),
        ("SSH_KEY", "/etc/hostname"),
        ("PWD", "graftline"),
        ("OLDPWD", "graftline"),
        ("SSH_AUTH_SOCK", "agent.sock"),
        ("GIT_AUTHOR_EMAIL", "ada@example.org"),
        ("KEYBOARD", "querty"),
        ("COMPASS", "north-west"),
    ],
)
def test_value_of_another_variable_is_shown(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert redactor()(value) == value


@pytest.mark.parametrize("before", ["", "a", "ab", "user:"])
@pytest.mark.parametrize("behind", ["", "x", "\n"])
def test_secret_within_base64_is_hidden(monkeypatch, before, behind):
    """A header of HTTP has user and password so."""
    monkeypatch.setenv("STORE_PASSWORD", SECRET)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        shown = redactor()(encode(f"{before}{SECRET}{behind}".encode()).decode())
        assert "***" in shown
        rest = shown.replace("***", "")
        assert len(rest) <= 4 + 4 * len(before)


def test_secret_in_an_address_is_hidden_however_it_is_encoded(monkeypatch):
    monkeypatch.setenv("STORE_PASSWORD", "a/b c+d&é=~x")
    for encoded in ("a%2Fb%20c%2Bd%26%C3%A9%3D~x", "a/b%20c%2Bd%26%C3%A9%3D~x", "a%2fb+c%2bd%26%c3%a9%3d~x"):
        assert redactor()(f"http://host/{encoded}?") == "http://host/***?"


def test_key_that_begins_like_a_path_is_hidden(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"/{SECRET}/b")
    monkeypatch.setenv("B2_APPLICATION_KEY", f"/{SECRET}")
    assert redactor()(f"</{SECRET}/b> </{SECRET}>") == "<***> <***>"


def test_value_of_a_variable_that_is_named_secret_is_hidden_even_if_it_is_short(monkeypatch):
    monkeypatch.setenv(NAMED, "STORE,LOGIN")
    monkeypatch.setenv("STORE", "abc")
    monkeypatch.setenv("LOGIN", "/etc/x\nsecond line")
    assert redactor()("<abc> <second line> </etc/x>") == "<***> <***> <***>"


def test_prefect_gets_no_secret_from_an_error_of_our_own(monkeypatch, workspace, prefect_api):
    """Both messages quote their input."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("GRAFTLINE_RETRY_SECONDS", SECRET)
    (workspace / "data/batches.yaml").write_text("batches: [first]\n", "utf-8")
    states = [ingest(f"/mnt/{SECRET}", return_state=True), retrain(publish_to="main", return_state=True)]
    assert [state.name for state in states] == ["Failed", "Failed"]
    assert states[0].message.startswith("there is no landing at /mnt/***: ")
    assert states[1].message.startswith("GRAFTLINE_RETRY_SECONDS is '***', ")


@pytest.mark.parametrize("password", [SECRET, f"a,{SECRET}#1"])
def test_password_in_dvcs_settings_is_hidden(workspace, dvc, password):
    dvc(workspace, "remote", "add", "store", "https://127.0.0.1/store")
    dvc(workspace, "remote", "modify", "--local", "store", "password", password)
    assert redactor()(f"refused: {password}") == "refused: ***"


def test_no_secret_leaves_the_place_where_its_user_put_it(project, new_home, tmp_path, dvc, set_param, files_with):
    """A run that cannot reach DVC's remote, one that cannot reach git's, and one that reaches both."""
    hub, home = tmp_path / "hub.git", new_home()
    git("init", "--quiet", "--bare", hub)
    address = f"http://x:{SECRET}@127.0.0.1:9/hub.git"
    git("remote", "add", "origin", address, folder=project)
    dvc(project, "remote", "add", "far", "s3://door/store")
    dvc(project, "remote", "modify", "far", "endpointurl", "http://127.0.0.1:9")
    for key, value in {"access_key_id": "somebody", "secret_access_key": SECRET}.items():
        dvc(project, "remote", "modify", "--local", "far", key, value)
    set_param(project, "min_accuracy", 0.4)
    commit(project, "A lower floor")

    def retrain(server):
        environment = server | {
            "GRAFTLINE_RETRY_SECONDS": "0",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "GRAFTLINE_WEBHOOK": f"http://127.0.0.1:9/{SECRET}",
        }
        done = run_module("flows.retrain", "--publish-to", "main", status=None, cwd=project, env=environment)
        printed = done.stdout + done.stderr
        assert SECRET not in printed
        return done.returncode, printed

    with prefect_server(home) as server:
        dvc(project, "remote", "default", "far")
        commit(project, "The remote that is not")
        status, printed = retrain(server)
        assert status == 1
        assert "127.0.0.1:9" in printed
        assert "the candidate is accepted; not published: " in printed
        dvc(project, "remote", "default", "store")
        commit(project, "The remote that is there")
        status, printed = retrain(server)
        assert status == 1
        assert "git cannot push to origin (fatal: unable to access 'http://" in printed
        git("config", f"url.file://{hub}.insteadOf", address, folder=project)
        status, printed = retrain(server)
        assert status == 0, printed
    assert files_with(SECRET, project) == [project / ".dvc/config.local", project / ".git/config"]
    assert files_with(SECRET, home) == []
    assert (home / "prefect.db").is_file()
    assert files_with(SECRET, hub) == []
