"""Whether new batches are worth a training, by the files that the audit and DVC write."""

import json

import pytest
import yaml

from flows.server.worth import NotWorthItError, check_worth

DVC = {
    "vars": ["data/batches.yaml"],
    "stages": {"audit": {"cmd": "exec python -m tasks.audit --health data/health"}},
}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Return a function that writes a workspace: batches with their samples and drift, of which some are trained on."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/health").mkdir(parents=True)
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(DVC), "utf-8")

    def write(batches, trained):
        (tmp_path / "data/batches.yaml").write_text(yaml.safe_dump({"batches": list(batches)}), "utf-8")
        params = {"data/batches.yaml": {"batches": trained}}
        (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": {"train_head": {"params": params}}}), "utf-8")
        health = {"num_compared": 2, "min_new": 0.1, "batches": batches}
        (tmp_path / "data/health/health.json").write_text(json.dumps(health), "utf-8")

    return write


def batch(num, *, is_different=None):
    drift = None if is_different is None else {"is_different": is_different, "text": f"batch of {num} <b>"}
    return {"num_samples": num, "drift": drift}


def test_small_batch_that_looks_like_the_others_waits(workspace):
    workspace({"a": batch(1000), "b": batch(50, is_different=False)}, ["a"])
    with pytest.raises(NotWorthItError, match=r"not trained: 50 new samples, beside 1,000 before, .*; batch of 50"):
        check_worth()


def test_small_batches_add_up(workspace):
    workspace({"a": batch(1000), "b": batch(50, is_different=False), "c": batch(50, is_different=False)}, ["a"])
    assert "100 new samples, beside 1,000 before, are enough" in check_worth()


def test_small_batch_that_differs_is_worth_it_and_says_how(workspace):
    workspace({"a": batch(1000), "b": batch(50, is_different=True)}, ["a"])
    assert check_worth() == "batch of 50 <b>"


def test_more_batches_than_are_compared_are_worth_it(workspace):
    workspace({"a": batch(1000)} | {name: batch(5) for name in "bcd"}, ["a"])
    assert "3 batches are new" in check_worth()


def test_nothing_new_and_a_first_training_are_no_question(workspace, tmp_path):
    workspace({"a": batch(1000)}, ["a"])
    assert check_worth() == ""
    (tmp_path / "dvc.lock").unlink()
    assert check_worth() == "nothing was trained yet"


def test_batch_that_is_taken_away_is_worth_it(workspace):
    workspace({"a": batch(1000)}, ["a", "gone"])
    assert "gone is no batch any more" in check_worth()


def test_damaged_health_is_one_clear_error(workspace, tmp_path):
    workspace({"a": batch(1000), "b": batch(5)}, ["a"])
    (tmp_path / "data/health/health.json").write_text('{"batches": []}', "utf-8")
    with pytest.raises(ValueError, match=r"health\.json is damaged: run `dvc repro audit` again"):
        check_worth()
