import pandas as pd

from tasks.data.classes import classes_in_order


def classes(*rows):
    return classes_in_order(pd.DataFrame(rows, columns=["batch", "label"]), target="label")


def test_classes_of_a_batch_are_sorted():
    assert classes(("a", "dog"), ("a", "cat"), ("a", "dog")) == ["cat", "dog"]


def test_class_of_a_later_batch_is_appended_though_it_sorts_first():
    old = (("a", "dog"), ("a", "cat"))
    assert classes(*old, ("b", "ant"), ("b", "cat"), ("b", "bee")) == [*classes(*old), "ant", "bee"]


def test_sample_without_a_label_adds_no_class():
    assert classes(("a", "dog"), ("a", None)) == ["dog"]
