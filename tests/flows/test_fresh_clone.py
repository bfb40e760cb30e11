"""CI jobs in fresh clones: the script that the CI files call, with a bare git repository and a DVC remote."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.kit.prefect_server import prefect_server
from flows.sharing.proposal import Proposal, propose
from flows.workspace.working_copy import commit
from tests.kit.programs import git, run

OLD_DATA = "data/raw/first"


@pytest.fixture
def hub(project, tmp_path):
    """A bare repository with the commits of `project`."""
    path = tmp_path / "hub.git"
    git("clone", "--quiet", "--bare", str(project), str(path), folder=tmp_path)
    git("remote", "add", "origin", str(path), folder=project)
    return path


@pytest.fixture(scope="module")
def server(new_home):
    """The environment of jobs that have a Prefect server."""
    with prefect_server(new_home()) as environment:
        yield environment


@pytest.fixture
def job(hub, server, tmp_path):
    """A function that runs `.ci/retrain` in a fresh clone.

    It returns the clone's folder, the exit status, all that was printed, and the facts of the proposal.
    """

    def run_job(name, **settings):
        clone = tmp_path / name
        git("clone", "--quiet", str(hub), str(clone), folder=tmp_path)
        merged = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = run(clone / ".ci/retrain", status=None, env=server | {"PYTHON": sys.executable} | settings, **merged)
        facts = dict(line.split("=", 1) for line in (clone / "proposal/facts.env").read_text("utf-8").splitlines())
        return clone, done.returncode, done.stdout, facts

    return run_job


def test_two_clones_on_one_machine_share_one_training(project, hub, job, set_param):
    set_param(project, "perturbations", "[recompressed]")
    set_param(project, "title", "Digits")
    commit(project, "Another perturbation")
    git("push", "--quiet", "origin", "main", folder=project)
    main = git("rev-parse", "main", folder=hub)

    first, status, printed, facts = job("first", PREFECT_API_URL="")  # Prefect starts a server for this run
    assert status == 0, printed
    assert "Running stage 'evaluate'" in printed
    assert "Running stage 'finetune'" not in printed
    branch = facts["branch"]
    assert branch.startswith("graftline/")
    assert facts["verdict"] == "accepted"
    assert git("rev-parse", branch, folder=hub) == git("rev-parse", "HEAD", folder=first)
    body = (first / "proposal/body.md").read_text("utf-8")
    assert "# The candidate is accepted" in body
    assert "| label.candidate.unchanged.recompressed |" in body
    assert "Merging takes `dvc.lock`" in body
    assert git("rev-parse", "main", folder=hub) == main

    second, status, printed, facts = job("second")
    assert status == 0, printed
    assert "Running stage" not in printed
    assert "'evaluate' is cached - skipping run" in printed
    assert not (second / OLD_DATA).exists()
    assert (second / "dvc.lock").read_bytes() == (first / "dvc.lock").read_bytes()
    assert facts["branch"] == branch
    assert (second / "proposal/body.md").read_text("utf-8") == body

    git("update-ref", "refs/heads/main", branch, folder=hub)  # the pull request is merged
    third, status, printed, facts = job("third")
    assert status == 0, printed
    assert "nothing to do" in printed
    assert not (third / OLD_DATA).exists()
    assert not (third / "data/models/candidate").exists()
    assert (facts["branch"], facts["verdict"]) == ("", "none")


def test_rejected_candidate_fails_the_job_and_is_proposed_with_its_verdict(project, hub, job, set_param):
    set_param(project, "min_accuracy", 1.0)
    commit(project, "Perfection")
    git("push", "--quiet", "origin", "main", folder=project)
    main = git("rev-parse", "main", folder=hub)
    clone, status, printed, facts = job("clone")
    assert status == 1
    assert facts["verdict"] == "rejected"
    assert facts["title"].endswith("is rejected")
    body = (clone / "proposal/body.md").read_text("utf-8")
    assert "**fail**" in body
    assert "The candidate is rejected" in (clone / "data/report/index.html").read_text("utf-8")
    assert "pulling what a stage reads: data/raw/first.dvc" in printed
    assert git("rev-parse", "main", folder=hub) == main


def test_job_with_promote_accepted_promotes_and_pushes_to_main(project, hub, job, set_param, dvc, tmp_path):
    set_param(project, "min_accuracy", 0.4)
    commit(project, "A lower floor")
    git("push", "--quiet", "origin", "main", folder=project)
    clone, status, printed, facts = job("clone", GRAFTLINE_PUBLISH_TO="main", GRAFTLINE_PROMOTE="accepted")
    assert status == 0, printed
    assert "Running stage 'finetune'" not in printed
    assert git("rev-parse", "main", folder=hub) == git("rev-parse", "HEAD", folder=clone)
    assert git("tag", folder=hub).split() == ["classifier@v1.0.0"]
    assert facts["branch"] == ""
    dvc(tmp_path, "artifacts", "get", str(hub), "classifier", "--out", "fetched")
    assert (tmp_path / "fetched/model.json").is_file()


def test_check_of_a_pull_request_names_the_first_stale_stage_without_any_data(project, tmp_path, set_param):
    clone = tmp_path / "clone"
    git("clone", "--quiet", str(project), str(clone), folder=tmp_path)

    def check():
        done = run(clone / ".ci/check-pipeline", status=None, env=os.environ | {"PYTHON": sys.executable})
        return done.returncode, done.stdout + done.stderr

    assert check() == (0, "a retraining would have nothing to do\n")
    set_param(clone, "backbone_learning_rate", 0.0001)
    assert check() == (0, "a retraining would begin with finetune\n")
    locks = json.loads((clone / ".dvc/tmp/rwlock").read_text("utf-8"))  # as the next DVC does
    assert not any(locks.values())
    assert not (clone / "data/scanned").exists()
    set_param(clone, "backbone_learning_rate", "'fast'")
    status, printed = check()
    assert (status, "backbone_learning_rate" in printed) == (1, True)
    git("checkout", "--quiet", "params.yaml", folder=clone)
    (clone / "data/batches.yaml").write_text('batches: [first, "second"]\n', "utf-8")
    status, printed = check()
    assert (status, "lists second without a .dvc file in data/raw: `dvc add`" in printed) == (1, True)
    (clone / "data/batches.yaml").write_text("batches: []\n", "utf-8")
    assert check() == (0, "a retraining waits for a first batch\n")
    set_param(clone, "backbone_learning_rate", "'fast'")
    assert check()[0] == 1
    git("checkout", "--quiet", "params.yaml", folder=clone)
    (clone / "dvc.yaml").write_text("stages: [", "utf-8")
    assert check()[0] == 1


def test_run_that_failed_before_its_verdict_is_not_reported_as_nothing_to_do(workspace):
    assert propose("HEAD").body == "There was nothing to do.\n"
    assert "The run failed" in propose("HEAD", has_failed=True).body


def test_title_of_several_lines_adds_no_fact():
    proposal = Proposal(branch="", title="Retrained\nbranch=main", verdict="none\r", body="")
    assert proposal.facts() == "branch=\ntitle=Retrained branch=main\nverdict=none\n"
