import pandas as pd

from tasks.page.gallery import worst


def predictions(rows, target="label"):
    """Return predictions. A row is the baseline's answer, the candidate's, and its probability of the label, x."""
    table = pd.DataFrame(rows, columns=["baseline", "candidate", "candidate_label_probability"])
    return table.assign(label="x", target=target, sample_id=[f"{target}{number}" for number in range(len(rows))])


def test_negative_flips_come_first_and_the_worst_of_each_kind():
    rows = [("x", "y", 0.3), ("y", "y", 0.0), ("x", "y", 0.1), ("x", "x", 0.9), ("y", "x", 0.9), ("y", "y", 0.2)]
    gallery = worst(predictions(rows), limit=10)
    assert gallery["sample_id"].tolist() == ["label2", "label0", "label1", "label5"]
    assert gallery["kind"].tolist() == ["negative flip", "negative flip", "error", "error"]


def test_both_kinds_share_the_limit_and_one_gets_the_places_that_the_other_leaves():
    flips, errors = [("x", "y", 0.1)] * 10, [("y", "y", 0.1)] * 10
    assert worst(predictions(flips + errors), limit=6)["kind"].tolist() == ["negative flip"] * 3 + ["error"] * 3
    assert worst(predictions(flips + errors[:1]), limit=6)["kind"].tolist() == ["negative flip"] * 5 + ["error"]
    assert worst(predictions(flips[:1] + errors), limit=6)["kind"].tolist() == ["negative flip"] + ["error"] * 5


def test_targets_share_the_limit():
    both = pd.concat([predictions([("y", "y", 0.1)] * 10, target) for target in ("colour", "shape")])
    assert worst(both, limit=6)["target"].value_counts().to_dict() == {"colour": 3, "shape": 3}


def test_more_targets_than_the_limit_have_one_image_each():
    many = pd.concat([predictions([("x", "y", 0.1), ("y", "y", 0.1)], target) for target in "abc"])
    assert worst(many, limit=2)["target"].tolist() == ["a", "b", "c"]


def test_without_a_model_in_use_there_are_no_flips():
    alone = predictions([("x", "y", 0.1)]).drop(columns="baseline")
    assert worst(alone, limit=6)["kind"].tolist() == ["error"]


def test_largest_errors_of_a_number_come_first_after_its_flips():
    rows = predictions([("1.0", "2.0", 0.0)] * 3).drop(columns="candidate_label_probability")
    judged = {"candidate_error": [1.0, 3.0, 2.0], "candidate_is_right": [True, False, False]}
    gallery = worst(rows.assign(**judged, baseline_is_right=[True, False, True]), limit=6)
    assert gallery["sample_id"].tolist() == ["label2", "label1", "label0"]
    assert gallery["kind"].tolist() == ["negative flip", "error", "error"]
