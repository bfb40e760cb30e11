"""The command `graftline`: what it lists, and what it starts."""

import re
from pathlib import Path

import pytest

from flows import train
from flows.__main__ import command_of, modules, usage
from flows.status import waiting
from tests.kit.programs import run_module

ROOT = Path(__file__).parents[2]


def test_every_door_is_listed_with_a_sentence():
    listed = {line.split()[0]: line.split()[1:] for line in usage().splitlines() if line.startswith("  ")}
    assert {*modules(ROOT / "flows"), "rollback", "schedule", "predict"} == set(listed)
    assert all(len(sentence) > 2 for sentence in listed.values())


def test_command_is_a_door_or_a_verb_by_its_name(finished, monkeypatch):
    monkeypatch.chdir(finished)
    assert command_of("report", []) == ("flows.report", [])
    assert command_of("rollback", ["v3"]) == ("flows.promote", ["--rollback"])
    assert command_of("schedule", []) == ("flows.serve", [])
    assert command_of("evaluate", []) == ("tasks.evaluate", [])
    assert command_of("predict", ["--bundle=b"]) == ("tasks.predict", [])
    assert command_of("serve", ["--bundle=b"]) == ("tasks.serve", [])
    with pytest.raises(ValueError, match="graftline has no command nothing"):
        command_of("nothing", [])


def test_predict_without_a_model_in_use_says_how_to_get_one(empty_project, monkeypatch):
    monkeypatch.chdir(empty_project)
    with pytest.raises(ValueError, match=r"no model is in use: `graftline promote` puts"):
        command_of("predict", ["a.jpg"])


def test_doctor_and_status_of_a_new_clone_say_what_to_do(workspace):
    doctor = run_module("flows.doctor").stdout
    assert "note  DVC remote  none: data and models stay on this machine; `dvc remote add -d NAME URL`" in doctor
    assert "FAIL" not in doctor
    status = run_module("flows.status").stdout
    assert "in use     no model yet: `graftline promote`" in status
    assert "batches    none yet: `graftline train DATA`" in status


def test_interrupted_training_says_how_to_go_on(monkeypatch, capsys):
    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.train.run", stop)
    with pytest.raises(SystemExit) as exited:
        train.main(["photos"])
    assert exited.value.code == 130
    assert capsys.readouterr().err == "\nstopped: the same command goes on from here\n"


def test_status_lists_no_kind_of_sample_of_which_there_is_none(finished, monkeypatch):
    monkeypatch.chdir(finished)
    assert not [line for line in waiting() if re.search(r"\b0 ", line)]
