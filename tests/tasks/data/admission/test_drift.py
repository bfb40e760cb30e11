import pandas as pd
import pytest
from scipy.stats import chi2_contingency

from tasks.data.admission.drift import label_drift
from tasks.targets.classes import Classes


def manifest(**labels_by_batch):
    rows = [(batch, label) for batch, labels in labels_by_batch.items() for label in labels]
    return pd.DataFrame(rows, columns=["batch", "label"])


def drift(table):
    return label_drift(table, targets={"label": Classes(())}, significance=0.01)


def test_first_batch_has_no_drift():
    assert drift(manifest(a=["cat", "dog"])).empty


def test_distance_is_half_the_sum_of_the_differences_of_the_fractions():
    [row] = drift(manifest(a=["cat"] * 50 + ["dog"] * 50, b=["cat"] * 90 + ["dog"] * 10)).to_dict("records")
    assert row["distance"] == row["significant_distance"] == pytest.approx(0.4)
    assert row["p_value"] == pytest.approx(chi2_contingency([[90, 10], [50, 50]], correction=False).pvalue)


def test_batch_is_compared_with_all_before_it():
    table = drift(manifest(a=["cat"] * 60, b=["dog"] * 60, c=["cat", "dog"] * 30))
    assert table["distance"].tolist() == [1.0, 0.0]


def test_small_batch_that_differs_by_chance_has_not_drifted():
    [row] = drift(manifest(a=["cat", "dog"] * 50, b=["cat", "cat"])).to_dict("records")
    assert (row["distance"], row["significant_distance"]) == (0.5, 0.0)


def test_batch_of_a_new_class_alone_has_the_largest_distance():
    [row] = drift(manifest(a=["cat"] * 50, b=["eel"] * 50)).to_dict("records")
    assert row["significant_distance"] == 1.0


def test_batch_without_labels_of_the_target_is_left_out():
    assert drift(manifest(a=["cat"], b=[None])).empty


def test_data_of_one_class_has_no_drift():
    [row] = drift(manifest(a=["cat"] * 5, b=["cat"] * 5)).to_dict("records")
    assert (row["distance"], row["p_value"]) == (0.0, 1.0)
