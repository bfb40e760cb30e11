import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from tasks.evaluate import majority_class
from tasks.metrics.answered import Answered
from tasks.metrics.measures import is_known, measure
from tasks.models.bundle import DESCRIPTION, WEIGHTS, check_baseline
from tasks.prediction.answers import answers
from tasks.prediction.heldout import in_names_of, prediction_table
from tasks.stage.params import EvaluateParams
from tasks.targets.classes import Classes
from tasks.targets.head import Head, load_heads, save_heads

PARAMS = EvaluateParams(
    minibatch_size=4, calibration_bins=5, confidence=0.95, num_resamples=20, slices=[], perturbations=[], forms=[]
)
LABELS = np.array([0, 1, 1, 0])
GOOD = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]])
NONE = np.zeros(4, dtype=bool)
POOR = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])


def measured(by_model, names=("cat", "dog"), *, leaked=NONE, is_shared=~NONE, is_adapted=NONE):
    answered = {model: Answered(probabilities, Classes(tuple(names))) for model, probabilities in by_model.items()}
    return measure(LABELS, answered, PARAMS, leaked=leaked, is_shared=is_shared, is_adapted=is_adapted, seed=0)


def in_order(answers, known, wanted):
    found = in_names_of(
        {"label": np.array(answers)}, known={"label": Classes(tuple(known))}, wanted={"label": Classes(tuple(wanted))},
        num_rows=len(answers),
    )  # fmt: skip
    return found["label"].answers.tolist()


def test_classes_of_the_baseline_are_put_in_the_order_of_the_candidate():
    assert in_order([[0.1, 0.2, 0.7]], "abc", "cab") == [[0.7, 0.1, 0.2]]


def test_class_that_the_baseline_does_not_know_has_no_probability():
    assert in_order([[0.4, 0.6]], "ab", ["b", "new", "a"]) == [[0.6, 0.0, 0.4]]


def test_class_that_only_the_baseline_knows_is_left_out():
    assert in_order([[0.1, 0.9]], ["a", "gone"], "ab") == [[0.1, 0.0]]


def test_target_that_the_baseline_does_not_know_has_equal_probabilities():
    wanted = {"place": Classes(("out", "in")), "animal": Classes(("cat", "dog", "eel", "fox"))}
    known = {"place": Classes(("in", "out"))}
    found = in_names_of({"place": np.array([[0.3, 0.7]] * 3)}, known=known, wanted=wanted, num_rows=3)
    assert found["place"].answers.tolist() == [[0.7, 0.3]] * 3
    assert found["animal"].answers.tolist() == [[0.25] * 4] * 3


def test_first_run_has_no_flips():
    assert set(measured({"candidate": GOOD, "head": POOR})) == {
        "candidate",
        "head",
    }


def test_flips_are_counted_from_the_baseline_to_the_candidate():
    found = measured({"candidate": GOOD, "baseline": POOR})
    assert (found["flips"]["positive"], found["flips"]["negative"]) == (2, 0)
    back = measured({"candidate": POOR, "baseline": GOOD})
    assert (back["flips"]["positive"], back["flips"]["negative"]) == (0, 2)
    assert back["flips"]["p_value"] == 0.25


def test_flips_are_counted_on_the_classes_that_the_baseline_knows():
    found = measured({"candidate": POOR, "baseline": GOOD}, is_shared=np.array([True, True, True, False]))
    assert (found["flips"]["negative"], found["flips"]["num_samples"]) == (1, 3)


def test_numbers_on_the_samples_that_both_can_know_are_told_where_these_are_a_part():
    is_shared = np.array([True, True, True, False])
    found = measured({"candidate": GOOD, "head": GOOD, "baseline": POOR}, is_shared=is_shared)
    assert found["baseline"]["accuracy"] == 0.5
    assert {model: each["accuracy"] for model, each in found["shared"].items()} == {"candidate": 1.0, "baseline": 2 / 3}
    assert set(found["shared"]["baseline"]) == set(found["baseline"])
    for is_shared in (NONE, ~NONE):
        assert "shared" not in measured({"candidate": GOOD, "baseline": POOR}, is_shared=is_shared)


def test_target_that_the_baseline_does_not_have_has_no_flips():
    is_shared = is_known(LABELS, Classes(("cat", "dog")), known=None)
    assert not is_shared.any()
    found = measured({"candidate": POOR, "baseline": GOOD}, is_shared=is_shared)
    assert (found["flips"]["num_samples"], found["flips"]["p_value"]) == (0, 1.0)


def test_class_is_known_by_its_name_wherever_it_stands():
    target, known = Classes(("cat", "dog", "eel")), Classes(("eel", "cat"))
    assert is_known(np.array([0, 1, 2]), target, known=known).tolist() == [True, False, True]


def test_answers_by_heads_of_domains_have_no_part_in_the_calibration_error():
    is_adapted = np.array([False, True, True, False])
    found = measured({"candidate": GOOD, "baseline": POOR}, is_adapted=is_adapted)
    assert found["candidate"]["calibration_error"] == pytest.approx(0.2)  # 0.9 and 0.7 sure, and right
    assert found["candidate"]["num_calibrated"] == found["baseline"]["num_calibrated"] == 2
    assert found["candidate"]["accuracy"] == 1.0
    found = measured({"candidate": GOOD}, is_adapted=~NONE)
    assert found["candidate"]["num_calibrated"] == 0
    assert "calibration_error" not in {**found["candidate"], **found["candidate"]["intervals"]}


def test_intervals_are_told_for_every_model_and_hold_what_was_measured():
    found = measured({"candidate": POOR, "head": GOOD})
    for model in ("candidate", "head"):
        for name, (low, high) in found[model]["intervals"].items():
            assert low <= found[model][name] <= high


def test_recall_is_told_by_the_name_of_the_class():
    found = measured({"candidate": POOR})
    assert found["candidate"]["recall"] == {"cat": 0.5, "dog": 0.5}


def test_class_without_held_out_samples_is_left_out_of_the_recall():
    wide = np.hstack([GOOD, np.zeros((4, 1))])
    found = measured({"candidate": wide}, ["cat", "dog", "eel"])
    assert set(found["candidate"]["recall"]) == {"cat", "dog"}


def test_accuracy_is_told_with_and_without_leaked_samples():
    found = measured({"candidate": POOR}, leaked=np.array([True, False, False, False]))
    assert found["candidate"]["accuracy"] == 0.5
    assert found["candidate"]["accuracy_without_leaks"] == pytest.approx(1 / 3)
    assert found["candidate"]["num_leaked"] == 1


def test_accuracy_without_leaks_is_none_where_all_leaked():
    found = measured({"candidate": GOOD}, leaked=~NONE)
    assert found["candidate"]["accuracy_without_leaks"] is None
    assert found["candidate"]["num_leaked"] == 4


def test_table_says_for_each_sample_what_it_is_and_what_each_model_says():
    rows = pd.DataFrame({"sample_id": list("wxyz"), "batch": "a", "path": list("1234"), "label": "left out"})
    target = Classes(("cat", "dog"))
    by_model = {"candidate": Answered(GOOD, target), "baseline": Answered(POOR, target)}
    table = prediction_table(rows, "label", LABELS, by_model)
    assert table["label"].tolist() == ["cat", "dog", "dog", "cat"]
    assert table["candidate"].tolist() == ["cat", "dog", "dog", "cat"]
    assert table["baseline"].tolist() == ["cat", "cat", "dog", "dog"]
    assert table["baseline_confidence"].tolist() == [0.9, 0.8, 0.6, 0.7]
    assert table["baseline_label_probability"].tolist() == [0.9, 0.2, 0.6, 0.3]


def test_majority_class_is_the_most_common_label_and_of_several_the_first():
    labels = pd.Series(["eel", "dog", "dog", "eel", None, None, None], dtype="str")
    assert majority_class(labels, ["cat", "dog", "eel"]) == "dog"


def test_head_alone_predicts_from_the_embeddings(tmp_path):
    layer = np.eye(2, dtype=np.float32), np.array([0.0, 1.0], dtype=np.float32)
    save_heads(tmp_path, {"label": Head(layers=(layer,))}, targets={"label": ["cat", "dog"]}, facts={})
    heads, targets = load_heads(tmp_path)
    found = answers(heads, targets, np.array([[3.0, 0.0], [0.0, 0.0]], dtype=np.float16))
    assert found["label"] == pytest.approx(softmax([[3.0, 1.0], [0.0, 1.0]], axis=1))


RECORD = {
    "model_sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",  # of abc
    "description_sha256": "cb8379ac2098aa165029e3938a51da0bcecfc008fd6795f401178647f96c5b34",  # of def
}


def test_model_in_use_that_is_not_here_is_named_with_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=f"the model in use is not at {tmp_path}: run `dvc pull {tmp_path}.dvc`"):
        check_baseline(tmp_path, RECORD)


@pytest.mark.parametrize("name", [WEIGHTS, DESCRIPTION])
def test_other_model_than_the_record_says_is_refused(tmp_path, name):
    """Other weights; or a model.json with, say, the classes in another order."""
    (tmp_path / WEIGHTS).write_bytes(b"abc")
    (tmp_path / DESCRIPTION).write_bytes(b"def")
    check_baseline(tmp_path, RECORD)
    (tmp_path / name).write_bytes(b"other")
    with pytest.raises(
        ValueError, match=rf"{name} is not that of the model in use .*: run `dvc checkout {tmp_path}.dvc`"
    ):
        check_baseline(tmp_path, RECORD)
