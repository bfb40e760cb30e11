"""The log of models in use."""

from pathlib import Path

import pytest

from flows.in_use.log import append, find, read_log, taken_back
from flows.server.retraining import decide

LOG = Path("data/models/promotions.jsonl")


@pytest.fixture(autouse=True)
def here(bare_workspace):
    pass


def entry(version, digest, previous=None, action="promote"):
    return {
        "version": version,
        "model_sha256": digest,
        "description_sha256": f"of {digest}",
        "dvc_out": {"path": "baseline"},
        "previous": previous,
        "action": action,
        "why": "a\nb é",
    }


def test_entries_are_read_back_in_order():
    entries = [entry(1, "aa"), entry(2, "bb", "aa")]
    for line in entries:
        append(line)
    assert read_log() == entries


def test_entry_that_is_there_is_not_added_again():
    append(entry(1, "aa"))
    append(entry(1, "aa"))
    assert len(read_log()) == 1


@pytest.mark.parametrize("kept", [1, 20, 60, -1])
def test_last_line_that_was_torn_is_repaired_and_no_other_is_lost(kept):
    append(entry(1, "aa"))
    append(entry(2, "bb"))
    content = LOG.read_bytes()
    first = content.index(b"\n") + 1
    LOG.write_bytes(content[: first + kept] if kept > 0 else content[:kept])
    assert [line["version"] for line in read_log()] == ([1] if kept > 0 else [1, 2])
    append(entry(2, "bb"))
    assert LOG.read_bytes() == content


@pytest.mark.parametrize("line", [b"{", b'{"version": 1, "model_sha256": "aa"}'])
def test_line_in_the_middle_that_is_damaged_is_named(line):
    append(entry(1, "aa"))
    LOG.write_bytes(line + b"\n" + LOG.read_bytes())
    with pytest.raises(ValueError, match=r"line 1 of data/models/promotions\.jsonl is damaged"):
        append(entry(2, "bb"))


def hashes(digest, description=None):
    return {"model_sha256": digest, "description_sha256": description or f"of {digest}"}


def test_model_is_found_by_the_beginning_of_its_digest():
    entries = [entry(1, "aa11"), entry(2, "ab22", "aa11"), entry(3, "aa11", "ab22", "rollback"), entry(4, "cc33")]
    assert find(entries, "aa", in_use=hashes("cc33"))["version"] == 3
    with pytest.raises(ValueError, match="'a' names 2 models: expected one of those that were in use, v1"):
        find(entries, "a", in_use=hashes("cc33"))
    with pytest.raises(ValueError, match=r"'dd' names 0 models: .*v4 \(cc33\)"):
        find(entries, "dd", in_use=hashes("cc33"))
    with pytest.raises(ValueError, match="cc is in use already"):
        find(entries, "cc", in_use=hashes("cc33"))


def test_model_is_found_by_its_version():
    assert find([entry(1, "aa"), entry(2, "bb")], "v1", in_use=hashes("bb"))["model_sha256"] == "aa"


def test_model_of_the_same_weights_with_another_description_is_another_model():
    entries = [entry(1, "aa"), entry(2, "aa") | {"description_sha256": "another"}]
    assert find(entries, "", in_use=hashes("aa", "another"))["version"] == 1
    assert find(entries, "aa", in_use=hashes("aa", "another"))["version"] == 1


def test_rollback_without_a_name_goes_back_one_model_at_a_time():
    entries = [entry(1, "a"), entry(2, "b", "a"), entry(3, "c", "b")]
    assert find(entries, "", in_use=hashes("c"))["model_sha256"] == "b"
    entries.append(entry(4, "b", "c", "rollback"))
    assert find(entries, "", in_use=hashes("b"))["model_sha256"] == "a"
    entries.append(entry(5, "a", "b", "rollback"))
    with pytest.raises(ValueError, match="there is no earlier model to go back to"):
        find(entries, "", in_use=hashes("a"))


def test_rollback_of_a_model_that_followed_a_rollback_goes_to_the_model_before_it():
    entries = [entry(1, "a"), entry(2, "b", "a"), entry(3, "a", "b", "rollback"), entry(4, "c", "a")]
    assert find(entries, "", in_use=hashes("c"))["model_sha256"] == "a"


def test_model_counts_as_rolled_back_until_a_person_puts_it_in_use_again():
    entries = [entry(1, "a"), entry(2, "b", "a"), entry(3, "a", "b", "rollback")]
    assert taken_back(entries, "b") == entries[2]
    assert taken_back(entries, "a") is None
    assert taken_back([*entries, entry(4, "c", "a")], "b") == entries[2]
    assert taken_back([*entries, entry(4, "b", "a")], "b") is None
    assert taken_back([*entries, entry(4, "b", "a"), entry(5, "c", "b")], "b") is None
    assert taken_back([], "a") is None


def test_retraining_does_not_put_an_undecided_candidate_that_waits_in_use():
    verdict = {
        "verdict": "undecided",
        "promotes": False,
        "candidate": "b",
        "rules": [],
        "problems": [],
        "doubts": ["few"],
    }
    result = decide(verdict, promote="accepted", hours=1, is_partial=False)
    assert "the candidate is undecided and waits for a person: few; see" in result


def test_undecided_candidate_that_passes_is_treated_as_an_accepted_one():
    for line in (entry(1, "a"), entry(2, "b", "a"), entry(3, "a", "b", "rollback") | {"why": "worse at night"}):
        append(line)
    verdict = {"verdict": "undecided", "promotes": True, "candidate": "b"}
    assert decide(verdict, promote="never", hours=1, is_partial=False) == "the candidate is undecided"
    result = decide(verdict, promote="accepted", hours=1, is_partial=False)
    assert "the candidate is undecided, and not put in use: v3 rolled it back" in result


def test_retraining_does_not_put_a_rolled_back_model_in_use():
    for line in (entry(1, "a"), entry(2, "b", "a"), entry(3, "a", "b", "rollback") | {"why": "worse at night"}):
        append(line)
    verdict = {"verdict": "accepted", "candidate": "b"}
    result = decide(verdict, promote="accepted", hours=1, is_partial=False)
    assert "not put in use: v3 rolled it back (worse at night)" in result
