import json

import pandas as pd
import pytest

from tasks.data.expectations import check_expectations, with_class_fraction

pytestmark = pytest.mark.usefixtures("great_expectations")


@pytest.fixture
def manifest(samples):
    table = samples("a", ["cat", "dog"] * 10)
    return table.assign(split=["train", "train", "val", "val", "heldout"] * 4)


def broken(manifest, **changes):
    """What is not met: (expectation, column)."""
    settings = {
        "classes": ["cat", "dog"], "target": "label", "min_samples": 20, "min_class_fraction": 0.5, "min_size": 16,
    }  # fmt: skip
    found = check_expectations(manifest, **settings | changes)
    names = [(each["expectation"], each["column"]) for each in found["expectations"] if not each["success"]]
    assert found["success"] == (not names)
    assert json.dumps(found)
    return names


def test_sound_manifest_meets_every_expectation(manifest):
    assert broken(manifest) == []


def test_too_few_samples_are_told(manifest):
    assert broken(manifest, min_samples=21) == [("expect_table_row_count_to_be_between", "")]


def test_class_below_its_share_is_told(manifest):
    rare = manifest.assign(label=["cat"] + ["dog"] * 19)
    assert broken(rare, min_class_fraction=0.06) == [("expect_column_values_to_be_between", "class_fraction")]


def test_class_that_is_not_listed_is_told(manifest):
    assert ("expect_column_distinct_values_to_equal_set", "label") in broken(manifest, classes=["cat", "dog", "eel"])


def test_sample_listed_twice_is_told(manifest):
    twice = pd.concat([manifest, manifest[:1]], ignore_index=True)
    assert ("expect_column_values_to_be_unique", "sample_id") in broken(twice, min_class_fraction=0.0)


def test_empty_split_is_told(manifest):
    assert broken(manifest.assign(split="train")) == [("expect_column_distinct_values_to_equal_set", "split")]


def test_share_of_a_class_is_of_all_samples(samples):
    found = with_class_fraction(samples("a", ["cat", "dog", "dog", "dog"]), "label")
    assert found["class_fraction"].tolist() == [0.25, 0.75, 0.75, 0.75]
