import json

from flows.decisions import DECISIONS, record

VERDICT = {"candidate": "c" * 64, "heldout": "d" * 64, "verdict": "accepted", "rules": []}


def recorded(tmp_path, monkeypatch, *verdicts):
    monkeypatch.chdir(tmp_path)
    DECISIONS.parent.mkdir(exist_ok=True)
    for verdict in verdicts:
        (tmp_path / "verdict.json").write_text(json.dumps(verdict), "utf-8")
        record(tmp_path / "verdict.json")
    return [json.loads(line) for line in DECISIONS.read_text("utf-8").splitlines()]


def test_each_verdict_is_written_down_once(tmp_path, monkeypatch):
    other = VERDICT | {"candidate": "a" * 64, "verdict": "rejected"}
    found = recorded(tmp_path, monkeypatch, VERDICT, VERDICT, other)
    assert [(each["candidate"][0], each["verdict"]) for each in found] == [("c", "accepted"), ("a", "rejected")]


def test_without_a_verdict_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record(tmp_path / "verdict.json")
    assert not DECISIONS.exists()
