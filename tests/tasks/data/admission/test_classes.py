import pandas as pd

from tasks.data.admission.classes import class_changes, classes_in_order


def table(*rows):
    return pd.DataFrame(rows, columns=["batch", "label"])


def classes(*rows, registered=(), min_samples=1):
    return classes_in_order(table(*rows), target="label", registered=registered, min_samples=min_samples)[0]


def changes(*rows, registered=()):
    return class_changes(table(*rows), target="label", registered=registered)


def test_classes_of_a_batch_are_sorted():
    assert classes(("a", "dog"), ("a", "cat"), ("a", "dog")) == ["cat", "dog"]


def test_class_of_a_later_batch_is_appended_though_it_sorts_first():
    old = (("z", "dog"), ("z", "cat"))
    assert classes(*old, ("b", "ant"), ("b", "cat"), ("b", "bee")) == [*classes(*old), "ant", "bee"]


def test_class_takes_its_place_by_the_batch_that_made_it_large_enough():
    rows = [("a", "ant"), ("a", "cat"), ("a", "cat"), ("b", "bee"), ("b", "bee"), ("c", "ant")]
    assert classes(*rows, min_samples=2) == ["cat", "bee", "ant"]


def test_registered_class_keeps_its_place_though_the_data_has_lost_it():
    assert classes(("a", "ant"), registered=["gone", "ant"]) == ["gone", "ant"]


def test_sample_without_a_label_adds_no_class():
    assert classes(("a", "dog"), ("a", None)) == ["dog"]


def test_class_that_waits_is_counted():
    _, waiting = classes_in_order(
        table(("a", "cat"), ("b", "cat"), ("b", "dog")), target="label", registered=[], min_samples=2
    )
    assert waiting == {"dog": 1}


def test_class_that_vanishes_from_a_batch_is_named():
    assert changes(("a", "cat"), ("a", "dog"), ("b", "cat")) == {"b": {"missing": ["dog"]}}


def test_renamed_class_is_named_with_its_old_name():
    found = changes(("a", "Traffic Light"), ("a", "dog"), ("b", "traffic_light"), ("b", "dog"))
    assert found == {
        "b": {
            "missing": ["Traffic Light"],
            "new": ["traffic_light"],
            "perhaps_renamed": [["Traffic Light", "traffic_light"]],
        }
    }


def test_first_batch_is_held_against_the_registered_classes():
    assert changes(("a", "cats"), registered=["cat"]) == {
        "a": {"missing": ["cat"], "new": ["cats"], "perhaps_renamed": [["cat", "cats"]]}
    }


def test_names_by_the_thousand_are_compared_in_no_time():
    rows = [(batch, f"{batch.upper()} IMG_{number:06d}") for batch in "ab" for number in range(3000)]
    found = changes(*rows, ("a", "Traffic Light"), ("b", "traffic light"))
    assert found["b"]["perhaps_renamed"] == [["Traffic Light", "traffic light"]]


def test_new_class_that_is_like_no_other_is_not_taken_for_renamed():
    assert changes(("a", "cat"), ("b", "elephant")) == {"b": {"missing": ["cat"], "new": ["elephant"]}}


def test_batch_without_labels_of_the_target_changes_nothing():
    assert changes(("a", "cat"), ("b", None), ("c", "cat")) == {}
