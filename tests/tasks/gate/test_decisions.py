import json
from hashlib import sha256

import pytest

from tasks.gate.decisions import (
    SAMPLE,
    Decision,
    read_decisions,
    sample_of,
    share_old,
    tries,
    undecided_in_a_row,
    worn,
    write_down,
)


def decided(path, *pairs):
    for candidate, heldout in pairs:
        write_down(path, Decision(candidate=candidate, heldout=heldout, verdict="rejected", baseline="b"))
    return read_decisions(path)


def ids(*numbers):
    return [sha256(f"{number}".encode()).hexdigest() for number in range(*numbers)]


def on(heldout, *numbers, candidate="c", baseline="b"):
    """A decision on the held-out set of these samples."""
    sample = sample_of(ids(*numbers))
    return Decision(candidate=candidate, heldout=heldout, verdict="rejected", baseline=baseline, sample=sample)


def test_candidate_that_is_judged_again_keeps_its_number(tmp_path):
    decisions = decided(tmp_path / "d.jsonl", ("a", "x"), ("b", "y"), ("c", "x"))
    numbers = [worn(decisions, Decision(candidate=name, heldout="x", verdict="", baseline="b")) for name in "acd"]
    assert numbers == [0, 1, 2]


def test_new_verdict_on_a_candidate_replaces_the_old_one(tmp_path):
    path = tmp_path / "d.jsonl"
    decided(path, ("a", "x"), ("b", "x"))
    write_down(path, Decision(candidate="a", heldout="x", verdict="accepted"))
    verdicts = [(decision.candidate, decision.verdict) for decision in read_decisions(path)]
    assert verdicts == [("a", "accepted"), ("b", "rejected")]


def test_logs_of_two_clones_are_one_log_with_the_lines_of_both(tmp_path):
    """What git's union of both makes; a candidate that both judged counts once."""
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    decided(first, ("a", "x"), ("b", "x"))
    decided(second, ("a", "x"), ("c", "x"))
    first.write_text(first.read_text("utf-8") + second.read_text("utf-8"), "utf-8")
    assert [decision.candidate for decision in read_decisions(first)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("<<<<<<< ours", "a mark of a merge conflict in line 2: remove the marks, keep the lines of both"),
        ('{"candidate": "b"}', r"not a list of decisions \(in line 2\): restore it with git"),
        ("", r"not a list of decisions \(in line 2\)"),
    ],
)
def test_line_that_holds_no_decision_is_named(tmp_path, line, problem):
    path = tmp_path / "d.jsonl"
    decided(path, ("a", "x"))
    path.write_text(f"{path.read_text('utf-8')}{line}\n", "utf-8")
    with pytest.raises(ValueError, match=problem):
        read_decisions(path)


@pytest.mark.parametrize("name", ["decisions.json", "decisions.jsonl"])
def test_list_of_an_earlier_version_is_read_and_goes_on(tmp_path, name):
    old = {"candidate": "a", "heldout": "x", "verdict": "accepted"}
    (tmp_path / name).write_text(json.dumps([old], indent=2), "utf-8")
    decisions = decided(tmp_path / "decisions.jsonl", ("b", "x"))
    assert [(decision.candidate, decision.baseline) for decision in decisions] == [("a", None), ("b", "b")]


def test_one_new_held_out_sample_wears_off_nothing():
    assert worn([on("x", 1000, candidate="a")], on("y", 1001)) > 0.9


@pytest.mark.parametrize("num", [40, 4000])
def test_wear_counts_by_the_share_of_held_out_samples_that_is_old(num):
    share = share_old(on("y", num), before=on("x", num // 2))
    assert share == pytest.approx(0.5, abs=0 if num <= SAMPLE else 0.2)


def test_another_held_out_set_is_new():
    assert worn([on("x", 500, candidate="a")], on("y", 500, 1000)) == 0


def test_tries_are_those_beside_the_same_model_in_use():
    decisions = [on("x", 50, candidate="a"), on("x", 50, candidate="d", baseline="other")]
    assert (tries(decisions, on("x", 50)), worn(decisions, on("x", 50))) == (1, 2)


def test_undecided_models_in_use_are_counted_back_to_one_that_was_accepted_or_that_a_person_chose():
    about = {"heldout": "x", "verdict": "undecided"}
    chain = [Decision(candidate=name, baseline=before, **about) for before, name in ("ab", "bc", "cd")]
    assert undecided_in_a_row(chain, "d") == 3
    by_person = [chain[0], chain[1].model_copy(update={"waits": True}), chain[2]]
    assert undecided_in_a_row(by_person, "d") == 1
    accepted = [chain[0], chain[1], chain[2].model_copy(update={"verdict": "accepted"})]
    assert undecided_in_a_row(accepted, "d") == 0
    assert undecided_in_a_row([], None) == 0
