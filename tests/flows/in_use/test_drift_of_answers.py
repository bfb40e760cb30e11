"""Drift of what the model in use answers: the command compares, and each window that drifted is told once."""

import json
import shutil

import pytest
from prefect.events import Event

from flows import watch as door
from flows.in_use.drift import event_id, mark_as_reported, news
from flows.server.watching import event_of
from flows.workspace import paths
from tests.kit.programs import run_module


def found(**drifted):
    windows = [
        {
            "key": key,
            "files": [f"file of {key}"],
            "is_judged": True,
            "is_drifted": is_drifted,
            "begin": None,
            "end": None,
            "num_samples": 50,
            "is_open": key == "open",
            "words": f"drifted: {key}",
        }
        for key, is_drifted in drifted.items()
    ]
    return {"model_sha256": "ab" * 32, "is_drifted": windows[-1]["is_drifted"], "windows": windows}


def write(content):
    paths.watched().mkdir(parents=True, exist_ok=True)
    (paths.watched() / "watch.json").write_text(json.dumps(content), "utf-8")


def test_window_is_told_once_and_one_that_drifts_later_is_news(bare_workspace):
    write(found(a=True, b=False, c=True))
    content, drifted = news()
    assert [window["key"] for window in drifted] == ["a", "c"]
    event = event_of(content, drifted)
    assert isinstance(event, Event)
    assert event.event == "answers.drifted"
    assert event.id == event_id(drifted)  # the same, if it is sent again
    assert event.resource["graftline.newest"] == "drifted"
    assert [window["words"] for window in event.payload["windows"]] == ["drifted: a", "drifted: c"]
    mark_as_reported(content, drifted)
    assert news()[1] == []
    write(found(a=True, d=True, c=True, open=True))
    assert [window["key"] for window in news()[1]] == ["d"]


def test_newest_window_of_an_event_is_one_that_gets_no_more_answers(bare_workspace):
    write(found(a=False, b=True, open=False))
    assert event_of(*news()).resource["graftline.newest"] == "drifted"
    write(found(a=True, b=False, open=True))
    assert event_of(*news()).resource["graftline.newest"] == "as usual"


def test_windows_that_move_because_the_oldest_file_went_are_no_news(bare_workspace):
    before = found(a=True, b=False, open=True)
    for window, files in zip(before["windows"], (["1", "2"], ["2", "3"], ["3"]), strict=True):
        window["files"] = files
    write(before)
    mark_as_reported(*news())
    after = found(moved=True, closed=True)
    for window, files in zip(after["windows"], (["2"], ["3"]), strict=True):
        window["files"] = files
    write(after)
    assert [window["key"] for window in news()[1]] == ["closed"]


def test_damaged_list_of_what_was_told_is_named(bare_workspace):
    write(found(a=True))
    mark_as_reported(*news())
    [file] = (bare_workspace / ".dvc/tmp").glob("graftline-drift*")
    file.write_text("[", "utf-8")
    with pytest.raises(ValueError, match="graftline-drift"):
        news()


def test_command_compares_the_answers_of_the_model_in_use(project, monkeypatch, capfd):
    monkeypatch.chdir(project)
    with pytest.raises(SystemExit, match="no model is in use, whose answers could drift"):
        door.main(["data/raw"])
    shutil.copytree(paths.candidate(), paths.baseline())
    answers = "answers.parquet"
    run_module("tasks.predict", "--bundle", str(paths.baseline()), "data/raw/first", "-o", answers, "--embeddings")
    with pytest.raises(SystemExit) as exited:
        door.main([answers, "--window", "60"])
    assert exited.value.code == 0
    said = capfd.readouterr()
    assert "the page: data/watch/watch.html" in said.out
    assert "windows drifted" in said.err
    content, _ = news()
    assert content["reference"]["has_embeddings"]
    assert "domain" in {test["test"] for test in content["windows"][0]["tests"]}
