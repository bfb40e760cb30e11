import pandas as pd
import pytest
import yaml

from tasks.data.admission.spellings import alike, line, merged, plain, several_in_one


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Kestrel", "kestrel"),
        ("kestrel", "kes\u200btrel"),
        ("red kite", "red\u00a0 kite"),
        ("red_kite", "Red Kite"),
        ("stra\u00dfe", "STRASSE"),
        ("fi", "\ufb01"),
        ("1", "1.0"),
        ("1", "01"),
        ("10", "1e1"),
        ("0", "-0.0"),
        ("7", "\uff17"),
    ],
)
def test_spellings_of_one_name_are_equal(one, other):
    assert plain(one) == plain(other)


@pytest.mark.parametrize(
    ("one", "other"), [("1", "-1"), ("1", "10"), ("0.1", "0.01"), ("cat", "cats"), ("-", "_"), ("nan", "inf")]
)
def test_other_names_stay_apart(one, other):
    assert plain(one) != plain(other)


def test_long_numbers_are_compared_to_the_last_digit():
    assert plain("1" * 40) != plain("1" * 39 + "2")


@pytest.mark.parametrize("text", ["1e999999999", "1e99999999999999999999", "9" * 5000])
def test_number_of_any_size_costs_nothing(text):
    assert len(plain(text)) <= len(text)


def test_pair_names_the_registered_class_first_else_the_larger_one():
    counts = {"Kestrel": 2, "kestrel": 60, "merlin": 60}
    assert alike(counts, first=[], merge={}) == [["kestrel", "Kestrel"]]
    assert alike(counts, first=["Kestrel"], merge={}) == [["Kestrel", "kestrel"]]


def test_person_may_keep_two_spellings_apart_or_merge_them():
    counts = {"A": 30, "a": 30}
    assert alike(counts, first=[], merge={"a": "a"}) == []
    assert alike({"A": 60, "a": 0}, first=["A", "a"], merge={"a": "A"}) == []


def test_cell_of_several_classes_is_found_with_its_parts():
    names = ["red", "round", "red|round", "Round | red", "half|done", "a/b", "b"]
    assert several_in_one(names, merge={"Round | red": "red"}) == {"red|round": ["red", "round"]}


def test_line_of_params_yaml_merges_what_cannot_be_seen():
    key, value = next(iter(yaml.safe_load(line("label", {"kes\u200btrel": "kestrel", "1.0": "1"})).items()))
    assert key == "validate.merge"
    assert value == {"label": {"kes\u200btrel": "kestrel", "1.0": "1"}}
    assert "\\u200b" in line("label", {"kes\u200btrel": "kestrel"})


def test_merged_label_counts_as_the_other_class():
    table = pd.DataFrame({"label": ["Kestrel", "kestrel", None], "colour": ["Red", None, "red"]}, dtype="str")
    changed = merged(table, {"label": {"Kestrel": "kestrel"}, "gone": {"a": "b"}})
    assert changed["label"].fillna("").tolist() == ["kestrel", "kestrel", ""]
    assert changed["colour"].equals(table["colour"])
