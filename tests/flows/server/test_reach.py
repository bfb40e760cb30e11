"""Who reaches the Prefect server can start runs only with the password, and no run can choose what prefect.yaml says.

One real server, started as a person does: in a project's folder, whose prefect.toml and .env it reads.
"""

import json
import os
import stat
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from benchmarks.kit.prefect_server import prefect_server
from flows.server.password import CLIENT, SERVER, make_password
from tests.kit.programs import SECONDS, run, run_module
from tests.kit.sharing import copied
from tests.kit.warm_starts import DOORS
from tests.kit.watching import Server

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

PAGE = {"Origin": "http://evil.example"}  # what a browser adds to a request of another site's page
DEPLOY = "from flows.server.deployments import read_deployments; [plan.apply() for plan in read_deployments()]"


@pytest.fixture(scope="module")
def project(empty_project, tmp_path_factory):
    """A project with a password."""
    place = tmp_path_factory.mktemp("guarded") / "project"
    copied(empty_project, place)
    make_password(place / ".env")
    return place


@pytest.fixture(scope="module")
def server(project, new_home):
    """A server of that project, and both deployments on it."""
    with prefect_server(new_home(), folder=project) as environment:
        lines = (project / ".env").read_text("utf-8").splitlines()
        environment |= {"GRAFTLINE_LANDING": str(project / "landing")}
        run(sys.executable, "-c", DEPLOY, cwd=project, env=environment)
        yield Server(environment["PREFECT_HOME"], environment | dict(line.split("=", 1) for line in lines))


def test_whoever_has_no_password_is_refused_under_any_name_of_the_host(server):
    for headers in ({}, {"Host": "evil.example"}, PAGE, {"Authorization": "Basic Z3JhZnRsaW5lOg=="}):
        answer = httpx.post(f"{server.api}/flow_runs/filter", json={}, headers=headers)
        assert answer.status_code == httpx.codes.UNAUTHORIZED or answer.status_code == httpx.codes.FORBIDDEN
        assert httpx.get(f"{server.api}/csrf-token?client=a", headers=headers).status_code == httpx.codes.UNAUTHORIZED


def test_page_of_another_site_may_neither_ask_nor_read(server):
    wish = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "prefect-csrf-token"}
    assert httpx.options(f"{server.api}/flow_runs/", headers=PAGE | wish).status_code == httpx.codes.BAD_REQUEST
    answer = httpx.get(f"{server.api}/csrf-token?client=a", headers=PAGE, auth=server.login)
    assert answer.is_success
    assert "access-control-allow-origin" not in answer.headers


def test_request_without_the_token_of_its_page_changes_nothing_even_with_the_password(server):
    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "application/json"}, PAGE):
        answer = httpx.post(f"{server.api}/flows/", content=b'{"name": "x"}', headers=headers, auth=server.login)
        assert answer.status_code == httpx.codes.FORBIDDEN
    assert [flow["name"] for flow in server.post("flows/filter")] == ["ingest", "retrain"]


def test_wrong_password_is_reported_in_one_line(server, project):
    done = run_module("flows.notify", status=1, cwd=project, env=server.environment | {CLIENT: "graftline:wrong"})
    assert "refuses the password of this folder (401)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("flow", "parameters"),
    [
        ("retrain", {"secrets": {"GIT_CONFIG_COUNT": "one"}}),
        ("retrain", {"promote": "accepted", "publish_to": "main"}),
        ("ingest", {"landing": "/etc"}),
    ],
)
def test_run_with_parameters_of_a_stranger_fails_before_it_does_anything(server, project, flow, parameters):
    made = server.post(f"deployments/{server.deployment(flow)}/create_flow_run", parameters=parameters)
    run_module("prefect", "flow-run", "execute", made["id"], status=None, cwd=project, env=server.environment)
    state = server.wait(made["id"], "Failed", seconds=5)["state"]
    assert f"this run has {next(iter(parameters))}: " in state["message"]
    assert "as prefect.yaml has it" in state["message"]


def test_run_with_the_parameters_of_the_plan_does_its_work(server, project):
    batch = project / "landing/first/cat"
    batch.mkdir(parents=True)
    (batch / "1.png").write_bytes(b"a cat")
    (project / "landing/first/_COMPLETE").touch()
    made = server.post(f"deployments/{server.deployment('ingest')}/create_flow_run")
    run_module("prefect", "flow-run", "execute", made["id"], cwd=project, env=server.environment)
    state = server.wait(made["id"], "Completed", "Failed", seconds=5)["state"]
    assert state["message"] == "landed 1 batch (1 file, 5 B): first"


@contextmanager
def open_server():
    """Something that answers as a Prefect server without a password does."""

    class Anybody(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps("3.8.8").encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Anybody)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/api"
    server.shutdown()
    thread.join(SECONDS)
    server.server_close()


def test_server_without_a_password_is_not_served_and_a_password_is_made_once(workspace, tmp_path):
    password = workspace / ".env"
    password.write_text("OTHER=1", "utf-8")
    contents = []
    with open_server() as address:
        environment = os.environ | {
            "PREFECT_HOME": str(tmp_path),
            "PREFECT_API_URL": address,
            "GRAFTLINE_LANDING": "/x",
        }
        for _ in range(2):
            done = run_module("flows.serve", status=1, cwd=workspace, env=environment)
            assert "asks for no password" in done.stderr
            assert done.stderr.count("\n") == 1
            contents.append(password.read_text("utf-8"))
    assert contents[0] == contents[1]
    assert [line.partition("=")[0] for line in contents[0].splitlines()] == ["OTHER", SERVER, CLIENT]
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert contents[0].split("=")[-1].strip() not in done.stdout + done.stderr


def test_password_is_never_written_through_a_link(tmp_path):
    (tmp_path / ".env").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        make_password(tmp_path / ".env")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"PREFECT_API_URL": "http://127.0.0.1:9/api"}, "the Prefect server at http://127.0.0.1:9/api does not answer"),
        ({"PREFECT_API_URL": "https://api.cloud.invalid/api"}, "https://api.cloud.invalid/api does not answer"),
        ({"PREFECT_API_URL": "127.0.0.1:4200"}, "the Prefect server at 127.0.0.1:4200 does not answer"),
        (
            {"PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false", "PREFECT_API_URL": ""},
            "the settings forbid a temporary one",
        ),
        ({"PREFECT_HOME": f"{__file__}/home", "PREFECT_API_URL": ""}, "test_reach.py/home, which cannot be written to"),
        (
            {"PREFECT_API_DATABASE_CONNECTION_URL": "postgresql+asyncpg://u:p@127.0.0.1:9/x", "PREFECT_API_URL": ""},
            "the database of Prefect's temporary server, 127.0.0.1:9, does not answer",
        ),
        ({"PREFECT_API_REQUEST_TIMEOUT": "soon", DOORS: ""}, "request_timeout"),
        ({"SSL_CERT_FILE": "/nowhere/ca.pem", "PREFECT_API_URL": ""}, "SSL_CERT_FILE names /nowhere/ca.pem, which"),
    ],
)
@pytest.mark.parametrize("command", [["flows.retrain"], ["flows.ingest", "landing"]], ids=["retrain", "ingest"])
def test_run_without_a_server_ends_at_once_with_one_line(workspace, command, settings, problem):
    done = run_module(*command, status=1, cwd=workspace, env=os.environ | settings)
    *by_prefect, line = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert problem in line
    assert len(by_prefect) <= 5, done.stderr  # of settings that it cannot use, it says so itself
    assert "Traceback" not in done.stderr
