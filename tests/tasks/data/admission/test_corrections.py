"""Decisions of people are appended, add up in the order of time, and contradict where two people differ."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.data.admission.corrections import (
    COLUMNS,
    Correction,
    append,
    decided,
    read_corrections,
    standing,
    undo,
)

ROOT = Path(__file__).parents[4]
CAT, DOG = "a" * 64, "b" * 64
HEADER = ",".join(COLUMNS)


def row(who, label="", *, action="relabel", sample_id=CAT, when="", note=""):
    target = "label" if label else ""
    return Correction(
        sample_id=sample_id, target=target, label=label, action=action, who=who, when=when, note=note
    )  # fmt: skip


def held(path, sample_id=CAT):
    return decided(standing(read_corrections(path)).get(sample_id, []))


def labels(path, sample_id=CAT):
    return {one.target: one.label for one in held(path, sample_id).labels}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "corrections.csv"


def test_absent_file_and_one_with_its_first_line_alone_hold_no_correction(path):
    assert read_corrections(path) == []
    path.write_text(f"{HEADER}\n", "utf-8")
    assert read_corrections(path) == []


def test_what_is_appended_is_read_back_and_nothing_before_it_changes(path):
    hostile = '=HYPERLINK("x"), "quoted"\nsecond line \x1b[31m'
    append(path, [row("Ann", "cat", note=hostile)], replaces=True)
    before = path.read_bytes()
    append(path, [row("Bob", action="set_aside", sample_id=DOG)], replaces=True)
    assert path.read_bytes().startswith(before)
    assert [(one.who, one.note) for one in read_corrections(path)] == [("Ann", hostile), ("Bob", "")]
    assert b"\x1b" not in before
    assert b"\n=" not in before


def test_file_whose_last_line_was_left_open_by_an_editor_is_appended_to(path):
    path.write_text(f"{HEADER}\n{CAT},label,cat,relabel,Ann,2026-01-01,", "utf-8")
    append(path, [row("Bob", "dog", sample_id=DOG)], replaces=True)
    assert len(read_corrections(path)) == 2


def test_same_decision_is_not_added_twice(path):
    append(path, [row("Ann", "cat")], replaces=True)
    assert append(path, [row("Ann", "cat")], replaces=True) == []


def test_labels_that_one_person_gave_twice_are_read_again_without_a_change(path):
    """An export may have two annotations of a sample by one person."""
    both = [row("Ann", "cat"), row("Ann", "dog")]
    for _ in range(2):
        append(path, both, replaces=False)
        assert labels(path) == {"label": "dog"}
    assert append(path, both, replaces=False) == []


def test_decision_is_later_than_one_of_the_same_second_that_a_program_wrote(path):
    path.write_text(f"{HEADER}\n{CAT},label,cat,relabel,Ann,2999-01-01T00:00:00.900Z,\n", "utf-8")
    append(path, [row("Ann", "dog")], replaces=True)
    assert labels(path) == {"label": "dog"}


def test_later_decision_of_a_person_replaces_the_own_earlier_one(path):
    for label in ("cat", "dog"):
        append(path, [row("Ann", label)], replaces=False)
    assert labels(path) == {"label": "dog"}
    assert held(path).conflict is None


def test_sample_that_was_set_aside_is_used_again_after_its_author_relabels_it(path):
    append(path, [row("Ann", action="set_aside")], replaces=True)
    append(path, [row("Ann", "dog")], replaces=True)
    assert held(path).set_aside is None
    assert labels(path) == {"label": "dog"}


def test_undo_takes_back_what_holds_and_uncovers_nothing_of_others(path):
    append(path, [row("Ann", "cat")], replaces=True)
    added = undo(path, CAT, who="Bob")
    assert [(one.action, one.label, one.who) for one in added] == [("undo", "cat", "Bob")]
    assert labels(path) == {}
    assert undo(path, CAT, who="Bob") == []


def test_whoever_has_seen_what_another_decided_replaces_it(path):
    append(path, [row("Ann", "cat")], replaces=True)
    append(path, [row("Bob", "dog")], replaces=True)
    assert labels(path) == {"label": "dog"}
    assert held(path).conflict is None


@pytest.mark.parametrize(
    "other", [row("Bob", "dog"), row("Bob", action="set_aside"), row("Bob", "dog", action="accept")]
)
def test_two_people_who_decide_differently_contradict(path, other):
    append(path, [row("Ann", "cat"), other], replaces=False)
    one, two = held(path).conflict
    assert (one.line, two.line) == (2, 3)
    append(path, [row("Cid", "dog")], replaces=True)
    assert held(path).conflict is None
    assert labels(path) == {"label": "dog"}


def test_two_people_who_agree_do_not_contradict(path):
    append(path, [row("Ann", "cat"), row("Bob", "cat"), row("Cid", action="accept")], replaces=False)
    assert held(path).conflict is None


def test_slow_clock_changes_no_order(path):
    path.write_text(f"{HEADER}\n{CAT},label,cat,relabel,Ann,2999-01-01T00:00:00Z,\n", "utf-8")
    undo(path, CAT, who="Bob")
    assert labels(path) == {}


def test_processes_that_append_at_once_lose_no_row(path):
    people = [f"person {number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda who: append(path, [row(who, "cat")], replaces=False), people))
    assert sorted(one.who for one in read_corrections(path)) == sorted(people)


def test_two_branches_that_each_append_merge_to_the_same_decisions_either_way(tmp_path):
    def git(*words):
        identity = ("-c", "user.name=t", "-c", "user.email=t@t")
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    file = tmp_path / "data/corrections.csv"
    file.parent.mkdir()
    git("init", "--quiet", "--initial-branch=main")
    (tmp_path / ".gitattributes").write_bytes((ROOT / ".gitattributes").read_bytes())
    file.write_bytes(f"{HEADER}\n".encode())
    append(file, [row("Ann", "cow")], replaces=True)
    git("add", ".")
    git("commit", "-m", "start")
    # both saw Ann's cow, and neither the other's decision
    for branch, person, label in (("one", "Bob", "cat"), ("other", "Cid", "dog")):
        git("switch", "--quiet", "-c", branch, "main")
        append(file, [row(person, label), row(person, label, sample_id=DOG if label == "dog" else "c" * 64)],
               replaces=True)  # fmt: skip
        git("commit", "--quiet", "-am", branch)
    found = []
    for ours, theirs in (("one", "other"), ("other", "one")):
        git("switch", "--quiet", "-c", f"merge-{ours}", ours)
        git("merge", "--quiet", theirs)
        found.append({sample: sorted(replace(one, line=0).decision for one in rows)
                      for sample, rows in standing(read_corrections(file)).items()})  # fmt: skip
    assert found[0] == found[1]
    assert {one.who for one in held(file).conflict} == {"Bob", "Cid"}
    assert labels(file, DOG) == {"label": "dog"}
    assert labels(file, "c" * 64) == {"label": "cat"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{CAT},label,cat,relable,Ann,2026-01-01,", "line 2: action is 'relable', expected one of relabel, accept"),
        ("abc,label,cat,relabel,Ann,2026-01-01,", "line 2: sample_id is 'abc', expected 64 digits"),
        (f"{CAT},label,cat,relabel,,2026-01-01,", "line 2: who is blank"),
        (f"{CAT},label,cat,relabel,Ann,yesterday,", "line 2: when is 'yesterday', expected a day or a time"),
        (f"{CAT},label,,relabel,Ann,2026-01-01,", "line 2: a relabel without a target or a label"),
        (f"{CAT},label,cat,set_aside,Ann,2026-01-01,", "line 2: set_aside is about the whole sample"),
        (f"{CAT},label,cat", "line 2 has 3 cells, expected 7"),
        (f'{CAT},label,"cat,relabel,Ann,2026-01-01,', "line 2: unexpected end of data: mend its quotes"),
    ],
)
def test_row_that_cannot_be_read_is_named_with_its_line_and_nothing_is_appended(path, line, message):
    path.write_text(f"{HEADER}\n{line}\n", "utf-8")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        read_corrections(path)
    with pytest.raises(ValueError, match=message):
        append(path, [row("Ann", "cat")], replaces=True)
    assert path.read_bytes() == before


def test_other_columns_and_another_encoding_are_refused(path):
    path.write_text("sample_id;target\n", "utf-8")
    with pytest.raises(ValueError, match=r"has the columns sample_id;target, expected sample_id,target,label"):
        read_corrections(path)
    path.write_bytes(f"{HEADER}\n{CAT},label,caf\u00e9,relabel,Ann,2026-01-01,\n".encode("cp1252"))
    with pytest.raises(ValueError, match="is not UTF-8"):
        read_corrections(path)
