"""Files that flows write in place, or again and again, under names that everybody knows."""

from pathlib import Path

import pytest

from flows.in_use import log
from flows.server import alarms
from flows.workspace import hold, turns


@pytest.fixture
def key(tmp_path, monkeypatch):
    """A file of the user, to which a stranger plants links; the folder looks like a workspace."""
    (tmp_path / "project/.dvc/tmp").mkdir(parents=True)
    (tmp_path / "key").write_text("precious", "utf-8")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "key"


def test_lock_that_is_a_link_is_refused(key):
    hold.LOCK.symlink_to(key)
    with pytest.raises(OSError, match="it is a link, expected a file: remove it"), hold.only_writer():
        pass
    assert key.read_text("utf-8") == "precious"


def test_file_of_those_that_wait_is_no_link(key):
    hold.LOCK.with_name("graftline-retrain.waits").symlink_to(key.with_name("new"))
    with pytest.raises(OSError, match="it is a link"), turns._only_one_that_waits("retrain"):
        pass
    assert not key.with_name("new").exists()


def test_reason_of_the_last_alarm_replaces_a_link(key):
    alarms.LAST_ALARM.symlink_to(key)
    alarms.failed("a failure", reason="the disk is full")
    assert key.read_text("utf-8") == "precious"
    assert alarms.LAST_ALARM.read_text("utf-8") == "the disk is full"


def test_log_of_models_that_is_a_link_is_refused(key, monkeypatch):
    place = Path("promotions.jsonl")
    place.symlink_to(key.with_name("new"))
    monkeypatch.setattr(log.paths, "promotions", lambda: place)
    with pytest.raises(OSError, match="it is a link"):
        log.append({"version": 1, "action": "promote", "model_sha256": "a", "dvc_out": {}})
    assert not key.with_name("new").exists()
