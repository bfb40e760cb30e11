"""`python -m flows.serve` reads prefect.yaml."""

import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from prefect.settings import get_current_settings

from flows.server.deployments import read_deployments
from flows.server.plan import parameters_of
from flows.server.secrets import check_variable
from tests.kit.programs import run_module

ROOT = Path(__file__).parents[3]
PLAN = ROOT / "prefect.yaml"


@pytest.fixture(autouse=True)
def landing(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("GRAFTLINE_LANDING", "/mnt/landing")


@pytest.fixture
def change(tmp_path):
    """Write a prefect.yaml with other settings of the deployment `retrain`."""

    def write(**settings):
        plan = yaml.safe_load(PLAN.read_text("utf-8"))
        plan["deployments"][0] |= settings
        path = tmp_path / "prefect.yaml"
        path.write_text(yaml.safe_dump(plan), "utf-8")
        return path

    return write


def test_file_of_the_repository_has_both_deployments_with_schedule_trigger_and_parameters():
    retrain, ingest = read_deployments()
    assert (retrain.full_name, ingest.full_name) == ("retrain/retrain", "ingest/ingest")
    assert retrain.schedules[0].schedule.cron == "0 3 * * *"
    assert [trigger.expect for trigger in retrain.triggers] == [{"dataset.landed"}]
    assert retrain.parameters["promote"] == "never"
    assert ingest.schedules[0].schedule.interval == timedelta(seconds=60)
    assert ingest.parameters["landing"] == "/mnt/landing"
    assert ingest.concurrency_limit == 1


def test_reading_the_file_leaves_the_path_of_python_as_it_is():
    before = list(sys.path)
    read_deployments()
    assert sys.path == before


def test_server_that_is_started_here_releases_the_limits_of_lost_runs_and_forgets_old_runs():
    server = get_current_settings().server
    assert server.concurrency.lease_storage == "prefect.server.concurrency.lease_storage.filesystem"
    assert "flow_runs" in server.services.db_vacuum.enabled_vacuum_types
    assert server.services.db_vacuum.retention_period == timedelta(days=30)


def test_variable_that_steers_a_program_is_no_secret():
    programs = ["PATH", "GIT_CONFIG_KEY_0", "LD_PRELOAD", "PYTHONSTARTUP", "DVC_ROOT", "SHELL", "BASH_ENV", "A=B"]
    for name in [
        *programs,
        "PREFECT_API_URL",
        "AWS_CONFIG_FILE",
        "HTTPS_PROXY",
        "GRAFTLINE_SECRETS",
        "git_ssh_command",
        "OPENSSL_CONF",  # it names a library that is loaded
        "TORCHINDUCTOR_CACHE_DIR",
        "CXX",
        "FSSPEC_S3",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    ]:
        with pytest.raises(ValueError, match="could make a program run other code"):
            check_variable(name)
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "GITLAB_TOKEN", "STORE_LOGIN", "DB_PASS"):
        check_variable(name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedulles": []}, "retrain: schedulles is unknown, expected one of name, entrypoint,"),
        ({"schedules": [{"cron": "every night"}]}, "retrain: .*every night"),
        ({"schedules": [{"cron": "0 3 * * *", "timezon": "UTC"}]}, "retrain: .*timezon"),
        ({"schedules": [{"at": 3}]}, "retrain: a schedule has at, expected one of cron, interval, rrule"),
        ({"triggers": [{"expect": ["a"], "posture": "Prompt"}]}, "retrain: .*posture"),
        ({"triggers": [{"expect": ["a"], "witin": 10}]}, "retrain: witin is unknown, expected one of .*within"),
        ({"triggers": {"expect": ["a"]}}, "retrain: triggers is .*, expected a list"),
        ({"schedules": {"cron": "0 3 * * *"}}, "retrain: schedules is .*, expected a list"),
        ({"schedules": 3}, "retrain: schedules is 3, expected a list"),
        ({"concurrency_limit": {"limit": 1, "colision_strategy": "ENQUEUE"}}, "retrain: colision_strategy is unknown"),
        ({"parameters": {"promot": "never"}}, "retrain: promot is unknown, expected one of promote, publish_to"),
        ({"parameters": {"promote": "always"}}, "retrain: .*promote"),
        (
            {"parameters": {"secrets": {"GIT_CONFIG_COUNT": "one"}}},
            "retrain: the secrets name the variable 'GIT_CONFIG",
        ),
        ({"name": "ingest"}, "two deployments are called ingest"),
        ({"entrypoint": "flows.retrain.train"}, "retrain: entrypoint 'flows.retrain.train' leads to no flow"),
        ({"entrypoint": "flows.nowhere.train"}, "retrain: entrypoint 'flows.nowhere.train' leads to no flow"),
        ({"entrypoint": "retrain"}, "retrain: entrypoint 'retrain' leads to no flow"),
        (
            {"entrypoint": "flows/retrain.py:retrain"},
            "retrain: entrypoint .* is a file, expected the module of the flow",
        ),
        ({"description": "{{ $NOBODY_SET_THIS }}"}, "retrain: NOBODY_SET_THIS is not set in the environment"),
    ],
)
def test_mistake_in_the_file_is_reported_by_name_in_one_line(change, settings, message):
    with pytest.raises(ValueError, match=f"prefect.yaml: {message}") as error:
        read_deployments(change(**settings))
    assert "\n" not in str(error.value)


def test_run_may_have_the_parameters_of_a_schedule_or_a_trigger():
    starts = {"schedules": [{"cron": "0 3 * * *", "parameters": {"pull": True}}], "triggers": [{"expect": ["landed"]}]}
    assert parameters_of({"parameters": {"promote": "never"}} | starts) == [
        {"promote": "never"}, {"promote": "never", "pull": True}, {"promote": "never"},
    ]  # fmt: skip
    assert parameters_of({}) == [{}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("deployments: [", "is not YAML"),
        ("- 1", "has no list `deployments`"),
        ("deployments: [{}]", "deployment 1 has no"),
    ],
)
def test_file_without_deployments_is_refused(tmp_path, text, message):
    (tmp_path / "prefect.yaml").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=message):
        read_deployments(tmp_path / "prefect.yaml")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"PREFECT_API_URL": ""}, "error: PREFECT_API_URL names no Prefect server"),
        ({"PREFECT_API_URL": "http://127.0.0.1:9/api"}, "error: there is no Prefect server at http://127.0.0.1:9/api"),
        (
            {"GRAFTLINE_LANDING": "s3://key:secret@door/land"},
            "error: prefect.yaml: ingest: the landing's address holds a password",
        ),
        ({"GRAFTLINE_LANDING": ""}, "error: prefect.yaml: ingest: GRAFTLINE_LANDING is not set in the environment"),
    ],
)
@pytest.mark.parametrize("command", ["flows.serve", "flows.deploy"])
def test_deployments_that_cannot_be_served_are_reported_in_one_line(workspace, tmp_path, command, settings, message):
    environment = os.environ | {"PREFECT_HOME": str(tmp_path), "PREFECT_CLIENT_MAX_RETRIES": "0"} | settings
    done = run_module(command, status=1, cwd=workspace, env=environment)
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # Apprise imports it
@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("GRAFTLINE_WEBHOOK", ""),
        ("GRAFTLINE_WEBHOOK", "hooks.example.org/secret"),
        ("GRAFTLINE_WEBHOOK", "https://"),
        ("GRAFTLINE_WEBHOOK", "http://[secret"),
        ("GRAFTLINE_EMAIL", "mailtos://user:secret@smtp.example.org?to=nobody"),
        ("GRAFTLINE_EMAIL", "team@secret.example.org"),
        ("GRAFTLINE_EMAIL", "slack://secret"),
    ],
)
def test_wrong_address_of_an_alarm_is_refused_and_not_shown(monkeypatch, capfd, variable, address):
    from flows.server.automations import by_environment

    monkeypatch.setenv(variable, address)
    with pytest.raises(ValueError, match=variable) as error:
        by_environment()
    assert "secret" not in f"{error.value} {capfd.readouterr()}"
