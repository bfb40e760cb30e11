"""The flow `retrain` on a real project, with a real Prefect server."""

import json
import os

import pytest
import yaml
from prefect import flow
from prefect.client.orchestration import get_client

from flows.in_use.verdict import UNDECIDED
from flows.retrain import is_up_to_date, retrain
from flows.server.narration import narrate
from flows.workspace.hold import only_writer
from tests.kit.programs import run_module

pytestmark = [
    # Prefect's server and client cause these at shut-down
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def here(prefect_api, project, monkeypatch):
    monkeypatch.chdir(project)
    return project


def test_accepted_run_has_a_task_run_for_each_stage_with_its_log_and_artifacts(here, set_param):
    set_param(here, "min_accuracy", 0.3)
    state = retrain(return_state=True)
    assert state.is_completed()
    assert state.message == "the candidate is accepted"
    with get_client(sync_client=True) as client:
        runs = [run for run in client.read_task_runs() if run.flow_run_id == state.state_details.flow_run_id]
        artifacts = client.read_artifacts()
        run_name = client.read_flow_run(state.state_details.flow_run_id).name
        logs = " ".join(log.message for log in client.read_logs())
    assert [run.name for run in sorted(runs, key=lambda run: run.start_time)] == ["regression", "report"]
    data = {artifact.key: artifact.data for artifact in artifacts}
    assert "# The candidate is accepted" in data["verdict"]
    assert "candidate" in data["comparison"]
    assert '"class": "3"' in data["confusion-matrix-of-label"]
    assert data["reliability-diagram"].startswith("data:image/svg+xml;base64,")
    assert run_name == "first: accepted"
    assert "report/index.html" in data["report"]
    assert "pass label accuracy" in logs


def test_second_run_has_nothing_to_do(here):
    assert retrain(return_state=True).message == "nothing to do"


def test_run_with_nothing_to_do_starts_no_server_of_its_own(project, new_home):
    environment = os.environ | {"PREFECT_HOME": str(new_home()), "PREFECT_API_URL": ""}
    done = run_module("flows.retrain", cwd=project, env=environment)
    assert done.stdout.startswith("nothing to do\nthe page is data/report/index.html; next: ")
    assert "server" not in done.stdout + done.stderr


def test_run_is_needed_where_a_stage_is_stale_or_a_candidate_waits_for_a_decision(project, monkeypatch, set_param):
    monkeypatch.chdir(project)
    assert is_up_to_date()
    UNDECIDED.touch()
    assert not is_up_to_date()
    UNDECIDED.unlink()
    set_param(project, "min_accuracy", 0.3)
    assert not is_up_to_date()


def test_new_batch_that_is_not_worth_a_training_waits_after_the_audit(here, put_batch, set_param):
    put_batch(here, "second", first=30)
    set_param(here, "min_new", 5.0)
    set_param(here, "min_drift", 1.0)
    state = retrain(train="when_worth_it", return_state=True)
    assert state.is_completed()
    assert "not trained: 240 new samples, beside 240 before" in state.message
    assert "batch second" in state.message
    trained = yaml.safe_load((here / "dvc.lock").read_text("utf-8"))["stages"]["train_head"]
    assert trained["params"]["data/batches.yaml"] == {"batches": ["first"]}
    assert (here / "data/health/health.json").is_file()


def test_rejected_candidate_fails_the_run_after_its_artifacts_are_posted(here, set_param):
    set_param(here, "min_accuracy", 1.0)
    state = retrain(return_state=True)
    assert state.is_failed()
    assert "label accuracy" in state.message
    with get_client(sync_client=True) as client:
        artifacts = [artifact.data for artifact in client.read_artifacts()]
    assert any("# The candidate is rejected" in artifact for artifact in artifacts)
    assert "The candidate is rejected" in (here / "data/report/index.html").read_text("utf-8")
    assert json.loads((here / "data/regression/verdict.json").read_text())["verdict"] == "rejected"


def test_failed_stage_fails_the_run_with_its_error_line(here):
    (here / "params.yaml").write_text((here / "params.yaml").read_text().replace("epochs:", "epoch:"), "utf-8")
    state = retrain(return_state=True)
    assert state.is_failed()
    assert "finetune.epoch is unknown" in state.message


def test_second_run_in_a_workspace_names_the_process_at_work(here):
    with only_writer():
        state = retrain(return_state=True)
    assert state.is_failed()
    assert f"process {os.getpid()} is at work" in state.message


def test_misspelt_parameter_fails_the_run_though_nothing_is_stale(here):
    (here / "params.yaml").write_text("sed: 1\n" + (here / "params.yaml").read_text("utf-8"), "utf-8")
    assert "sed is unknown" in retrain(return_state=True).message


def test_candidate_of_a_run_killed_before_its_decision_is_promoted_by_the_next(here, set_param, dvc):
    """Its stages are done: there is nothing else to do."""
    set_param(here, "min_accuracy", 0.3)
    dvc(here, "repro")
    (here / ".dvc/tmp/graftline-undecided").touch()
    assert "in use" in retrain(promote="accepted", return_state=True).message
    assert (here / "data/models/baseline").is_dir()
    again = retrain(promote="accepted", return_state=True)  # the gate compares it with itself once
    assert again.message == "the candidate is accepted, and in use already"
    assert not (here / ".dvc/tmp/graftline-undecided").exists()


def test_progress_of_a_long_stage_is_shown_while_it_runs(prefect_api):
    shown = []

    def lines():
        yield "Running stage 'embed@first':"
        for done in (1_000, 3_000):
            yield f"first: {done:,} of 4,000 samples"
            with get_client(sync_client=True) as client:
                shown.extend(item.data for item in client.read_artifacts() if item.key == "embed")

    @flow
    def long():
        return narrate(lines(), log=print)[0]

    assert long() == ["embed"]
    assert shown == [25.0, 75.0]
    with get_client(sync_client=True) as client:
        [artifact] = [item for item in client.read_artifacts() if item.key == "embed"]
    assert (artifact.data, artifact.description) == (100.0, "first")
