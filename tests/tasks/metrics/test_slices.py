import numpy as np
import pandas as pd
import pytest

from tasks.metrics.slices import check_slices, slice_table

ROWS = pd.DataFrame(
    {
        "label": ["cat", "cat", "dog", "dog"],
        "candidate": ["cat", "dog", "dog", "dog"],
        "baseline": ["cat", "cat", "cat", "dog"],
        "is_shared": [True, True, True, False],
        "batch": ["a", "a", "b", "b"],
        "camera": ["left", None, "left", "left"],
        "width": [100, 640, 64, 127],
        "height": [200, 480, 300, 400],
    }
)


def table(column, rows=ROWS):
    return slice_table(rows, columns=[column], target="label", confidence=0.95).set_index("value")


def test_class_is_a_slice_by_the_label():
    slices = table("class")
    assert slices["num_samples"].to_dict() == {"cat": 2, "dog": 2}
    assert slices["candidate_accuracy"].to_dict() == {"cat": 0.5, "dog": 1.0}


def test_flips_are_counted_on_the_classes_that_both_know():
    slices = table("batch")
    assert slices["num_shared"].to_dict() == {"a": 2, "b": 1}
    assert slices["negative_flips"].to_dict() == {"a": 1, "b": 0}
    assert slices["positive_flips"].to_dict() == {"a": 0, "b": 1}


def test_sizes_are_powers_of_two_of_the_shorter_side_in_order():
    assert table("size")["num_samples"].tolist() == [3, 1]
    assert table("size").index.tolist() == ["64 to 127 px", "256 to 511 px"]
    sides = ROWS.assign(width=[8, 16, 100, 9])
    assert table("size", sides).index.tolist() == ["8 to 15 px", "16 to 31 px", "64 to 127 px"]


def test_sizes_of_texts_are_powers_of_two_of_their_words():
    texts = ROWS.drop(columns=["width", "height"]).assign(words=[1, 63, 40, 128])
    assert table("size", texts).index.tolist() == ["1 word", "32 to 63 words", "128 to 255 words"]
    assert table("size", texts)["num_samples"].tolist() == [1, 2, 1]


def test_sample_without_a_value_is_in_no_slice():
    assert table("camera")["num_samples"].to_dict() == {"left": 3}


def test_without_a_baseline_there_are_no_flips():
    slices = table("class", ROWS.drop(columns="baseline"))
    assert slices["negative_flips"].isna().all()
    assert np.isfinite(slices["candidate_low"].astype(float)).all()


def test_slices_of_another_kind_have_the_errors_of_both_models_and_their_test():
    rows = ROWS.assign(
        candidate_error=[1.0, 2.0, 0.0, 9.0], candidate_is_right=[True, False, True, False],
        baseline_error=[0.0, 1.5, 0.0, 3.0], baseline_is_right=[True, True, True, True],
    )  # fmt: skip
    parts = [("low", np.array([True, True, True, False])), ("high", np.array([False, False, False, True]))]
    slices = slice_table(rows, columns=["class"], target="age", confidence=0.95, parts=parts).set_index("value")
    low = slices.loc["low"]
    assert (low["candidate_error"], low["baseline_error"], low["mean"]) == (1.0, 0.5, 0.5)
    assert (low["num_different"], low["p_value"]) == (2, 1 / 4)
    assert (low["candidate_accuracy"], low["baseline_accuracy"], low["negative_flips"]) == (2 / 3, 1.0, 1)
    assert slices.loc["high"][["candidate_error", "candidate_accuracy"]].tolist() == [9.0, 0.0]
    assert np.isnan(slices.loc["high"]["baseline_error"])


def test_error_names_a_column_that_the_manifest_lacks():
    with pytest.raises(ValueError, match=r"evaluate\.slices names 'domain', expected class, size or a column"):
        check_slices(ROWS, ["class", "domain"])


def test_slice_without_samples_is_refused_by_name():
    with pytest.raises(ValueError, match=r"evaluate\.slices names 'camera', a slice without samples"):
        check_slices(ROWS.assign(camera=None), ["camera"])
