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


def test_class_of_a_later_batch_is_appended_even_if_it_sorts_first():
    old = (("z", "dog"), ("z", "cat"))
    assert classes(*old, ("b", "ant"), ("b", "cat"), ("b", "bee")) == [*classes(*old), "ant", "bee"]


def test_classes_follow_in_the_order_in_which_they_became_large_enough():
    rows = [("a", "ant"), ("a", "cat"), ("a", "cat"), ("b", "bee"), ("b", "bee"), ("c", "ant")]
    assert classes(*rows, min_samples=2) == ["cat", "bee", "ant"]


def test_registered_class_without_samples_keeps_its_place():
    assert classes(("a", "ant"), registered=["gone", "ant"]) == ["gone", "ant"]


def test_sample_without_a_label_adds_no_class():
    assert classes(("a", "dog"), ("a", None)) == ["dog"]


def test_samples_of_a_class_in_probation_are_counted():
    _, waiting = classes_in_order(
        table(("a", "cat"), ("b", "cat"), ("b", "dog")), target="label", registered=[], min_samples=2
    )
    assert waiting == {"dog": 1}


def test_class_that_is_missing_from_a_batch_is_reported():
    assert changes(("a", "cat"), ("a", "dog"), ("b", "cat")) == {"b": {"missing": ["dog"]}}


def test_renamed_class_is_reported_with_its_old_name():
    assert changes(("a", "Traffic Light"), ("a", "dog"), ("b", "traffic_light"), ("b", "dog")) == {
        "b": {
            "missing": ["Traffic Light"],
            "new": ["traffic_light"],
            "perhaps_renamed": [["Traffic Light", "traffic_light"]],
        }
    }


def test_first_batch_is_compared_with_the_registered_classes():
    assert changes(("a", "cats"), registered=["cat"]) == {
        "a": {"missing": ["cat"], "new": ["cats"], "perhaps_renamed": [["cat", "cats"]]}
    }


def test_thousands_of_names_are_compared_quickly():
    rows = [(batch, f"{batch.upper()} IMG_{number:06d}") for batch in "ab" for number in range(3000)]
    by_batch = changes(*rows, ("a", "Traffic Light"), ("b", "traffic light"))
    assert by_batch["b"]["perhaps_renamed"] == [["Traffic Light", "traffic light"]]


def test_new_class_with_an_unlike_name_is_not_reported_as_renamed():
    assert changes(("a", "cat"), ("b", "elephant")) == {"b": {"missing": ["cat"], "new": ["elephant"]}}


def test_batch_without_labels_of_the_target_changes_nothing():
    assert changes(("a", "cat"), ("b", None), ("c", "cat")) == {}
