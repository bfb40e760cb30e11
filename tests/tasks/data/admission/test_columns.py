"""Which columns are learned does not depend on what lands later."""

import pandas as pd
import pytest

from tasks.data.admission.columns import perhaps_one_target, target_columns
from tasks.data.admission.options import AdmissionOptions


def columns(*tables, chosen=None, fixed=(), registered=()):
    """Return the targets, and the columns that are passed over."""
    targets, passed_over = chosen_of(*tables, chosen=chosen, fixed=fixed, registered=registered)
    return targets, list(passed_over)


def chosen_of(*tables, chosen=None, fixed=(), registered=()):
    options = AdmissionOptions(
        targets=chosen, classes={name: ["cat"] for name in fixed}, merge={}, min_samples_per_class=2
    )
    return target_columns(
        pd.concat(tables, ignore_index=True),
        options,
        registered=registered,
        facts=["format", "mode", "width", "height"],
        joined={},
    )


def test_facts_and_keys_are_not_targets(samples):
    table = samples("a", ["cat", "cat"]).assign(colour="red")
    assert columns(table) == (["label", "colour"], [])
    assert columns(table, chosen=["colour"]) == (["colour"], ["label"])


def test_column_of_unique_values_is_passed_over(samples):
    table = samples("a", ["cat", "cat"]).assign(serial=["1", "2"])
    assert chosen_of(table) == (["label"], {"serial": "no value of it has 2 samples"})


def test_targets_of_the_model_in_use_are_the_targets(samples):
    table = samples("a", ["cat", "cat"]).assign(colour="red", serial=["1", "2"])
    assert columns(table, registered=["serial"]) == (["serial"], ["label", "colour"])
    assert columns(table, registered=["label"], fixed=["colour"]) == (["label", "colour"], ["serial"])


def test_column_of_a_later_batch_becomes_no_target(samples):
    later = samples("b", ["cat", "cat"]).assign(colour="red")
    targets, passed_over = chosen_of(samples("a", ["cat", "cat"]), later)
    assert targets == ["label"]
    assert passed_over == {"colour": "batches before it taught other columns"}


def test_column_whose_values_become_frequent_later_becomes_no_target(samples):
    tables = [samples(batch, ["cat", "cat"]).assign(camera=["front", batch]) for batch in "abc"]
    assert columns(*tables) == (["label"], ["camera"])


def test_first_batches_that_are_too_small_decide_once_they_are_not(samples):
    tables = [samples(batch, ["cat"]).assign(colour="red") for batch in "ab"]
    assert columns(tables[0]) == (["label", "colour"], [])
    assert columns(*tables) == (["label", "colour"], [])


def test_batch_without_labels_decides_nothing(samples):
    assert columns(samples("a", ["cat"]).drop(columns="label"), samples("b", ["cat", "cat"])) == (["label"], [])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("patient_id", ["p1", "p2"]),
        ("patientId", ["p1", "p2"]),
        ("score", ["0.25", "1"]),
        ("age", [str(number) for number in range(40)]),
        ("captured date", ["2026-01-01", "2026-01-02"]),
    ],
)
def test_id_or_measurement_beside_a_label_is_passed_over_with_the_reason(samples, name, values):
    targets, passed_over = chosen_of(samples("a", ["cat"] * 80).assign(**{name: values * (80 // len(values))}))
    assert targets == ["label"]
    assert passed_over[name].startswith(("its name is", "it holds numbers"))


@pytest.mark.parametrize("values", [[f"tel {number}" for number in range(39)], [f"a b c {n}" for n in range(21)] * 2])
def test_texts_beside_a_label_are_passed_over_with_the_reason_and_no_cell(samples, values):
    table = samples("a", ["cat"] * 40).assign(subject=(values + values)[:40])
    assert chosen_of(table) == (["label"], {"subject": "its cells differ like texts"})
    assert columns(table.drop(columns="label")) == ([], ["subject"])


def test_texts_are_no_target_in_data_too_small_for_any_class(samples):
    table = samples("a", ["cat", "dog"]).assign(subject=["Ann Lee", "Bob Ray"])
    assert chosen_of(table) == (["label"], {"subject": "no value of it has 2 samples"})


@pytest.mark.parametrize("name", ["label", "class_id", "digit"])
def test_numbers_that_may_be_classes_are_a_target(samples, name):
    table = samples("a", ["0", "1", "0", "1"]).rename(columns={"label": name})
    assert columns(table) == ([name], [])


def test_doubtful_column_is_a_target_where_there_is_no_other(samples):
    table = samples("a", ["0.5", "1.5"] * 2).rename(columns={"label": "score"})
    assert columns(table) == (["score"], [])


def test_data_too_small_for_any_class_keeps_its_targets(samples):
    assert columns(samples("a", ["cat", "dog"])) == (["label"], [])


@pytest.mark.parametrize("name", ["Label", "WIDTH"])
def test_targets_that_differ_in_case_alone_are_refused(samples, name):
    table = samples("a", ["cat", "cat"]).assign(**{name: "red"})
    with pytest.raises(ValueError, match=rf"and '{name}' differ in case alone, expected one of them: rename '{name}'"):
        columns(table)
    assert columns(table, chosen=["label"]) == (["label"], [name])


@pytest.mark.parametrize(("key", "settings"), [("targets", {"chosen": ["colour"]}), ("classes", {"fixed": ["colour"]})])
def test_error_for_a_target_that_no_batch_has_names_it(samples, key, settings):
    with pytest.raises(ValueError, match=rf"validate\.{key} names 'colour', which no batch has, expected one of label"):
        columns(samples("a", ["cat"]), **settings)


def test_column_with_the_classes_of_a_target_that_a_whole_batch_lacks_is_found(samples):
    renamed = samples("b", ["Cat", "dog"]).rename(columns={"label": "class"})
    both = pd.concat([samples("a", ["cat", "dog", "eel"]), renamed], ignore_index=True)
    assert perhaps_one_target(both, ["label"], ["class"]) == [
        {"target": "label", "column": "class", "batches": ["b"], "classes": ["Cat", "dog"]}
    ]
    other = samples("b", ["red", "blue"]).rename(columns={"label": "colour"})
    assert perhaps_one_target(pd.concat([both[:3], other]), ["label"], ["colour"]) == []


def test_column_of_names_of_splits_is_passed_over(samples):
    table = samples("a", ["cat"] * 6).assign(subset=["train", "train", "Validation", "val", "TEST", "test"])
    why = "it holds names of splits: if it divides the samples, call it 'split'"
    assert chosen_of(table) == (["label"], {"subset": why})
