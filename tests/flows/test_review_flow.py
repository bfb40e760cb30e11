"""`graftline review` serves a real project until it is interrupted, and `graftline label` says what is missing."""

import re
import signal
import subprocess
import sys

import httpx
import pytest

from flows.label import choose
from flows.workspace.git import user_name
from tests.kit.programs import SECONDS, git


def start(project, *words):
    return subprocess.Popen(
        [sys.executable, "-m", *words], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_decision_on_the_page_is_in_the_table_that_git_keeps_and_makes_validate_alone_stale(project, dvc):
    git("config", "user.name", "Ann Example", folder=project)
    with start(project, "flows.review", "--no-browser") as door:
        try:
            line = next(line for line in door.stdout if "secret=" in line)
            address, secret = re.search(r"(http://127\.0\.0\.1:\d+/)\?secret=(\S+)", line).groups()
            with httpx.Client(base_url=address, follow_redirects=True) as client:
                page = client.get("/", params={"secret": secret})
                token = re.search(r'name="token" content="([^"]+)"', page.text)[1]
                tile = client.get("/tiles").json()["tiles"][0]
                assert client.get(f"/preview/{tile['id']}").headers["content-type"] == "image/webp"
                wanted = {"id": tile["id"], "action": "set_aside"}
                assert client.post("/decisions", json=wanted, headers={"x-review-token": token}).status_code == 200
        finally:
            door.send_signal(signal.SIGINT)
        said, _ = door.communicate(timeout=SECONDS)
    assert "1 rows are new in data/corrections.csv; next: commit it" in said
    [added] = (project / "data/corrections.csv").read_text("utf-8").splitlines()[1:]
    assert added.startswith(f"{tile['id']},,,set_aside,Ann Example,20")
    assert " M data/corrections.csv" in git("status", "--porcelain", folder=project)
    stale = {line.rstrip(":") for line in dvc(project, "status").splitlines() if line and not line[0].isspace()}
    assert stale == {"validate"}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["flows.label"], "the pool is empty: every sample has a label"),
        (["flows.label", "--read", "gone.csv"], "there is no file gone.csv"),
        (["flows.review", "--port", "many"], "--port is 'many', expected a number"),
    ],
)
def test_what_is_missing_is_said_in_one_line(project, words, line):
    with start(project, *words) as door:
        said, _ = door.communicate(timeout=SECONDS)
    assert door.returncode == 1
    assert line in said.splitlines()[-1]
    assert "Traceback" not in said


def test_model_in_use_that_is_not_here_is_fetched_first(workspace, monkeypatch):
    monkeypatch.setattr("flows.in_use.place.recorded", lambda: {"model_sha256": "0"})
    with pytest.raises(ValueError, match=r"the model in use, is not here: run `dvc pull data/models/baseline\.dvc`"):
        choose(None)


def test_name_that_git_knows_is_taken(workspace):
    git("config", "user.name", "Ann Example")
    assert user_name() == "Ann Example"
