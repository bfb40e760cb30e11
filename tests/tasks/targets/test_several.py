import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.machine.names import without_commands
from tasks.targets.several import MOST_AT_ONCE, Several, best_thresholds, labels_of, write

TARGET = Several(("even", "loop", "prime"))
LABEL = st.text(st.characters(codec="utf-8", exclude_characters="|"), min_size=1).filter(
    lambda name: name == name.strip() and not name.startswith("[")
)


def problem(*, n, seed, slope=1.0, shift=0.0):
    """Logits (n, 3) whose probabilities are sigmoid(slope * logit + shift), and truths."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=2, size=(n, 3))
    return logits, (generator.random((n, 3)) < 1 / (1 + np.exp(-slope * logits - shift))).astype(float)


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("b|a", ["a", "b"]),
        (" b | a |b", ["a", "b"]),
        ('["b", "a"]', ["a", "b"]),
        ("[]", []),
        ("[3, 1]", ["1", "3"]),
        ("a,b", ["a,b"]),
    ],
)
def test_cell_is_read_as_labels(cell, labels):
    assert labels_of(cell) == labels


@given(st.lists(LABEL, unique=True, min_size=1, max_size=5))
def test_labels_come_back_from_either_form(names):
    assert labels_of(write(names)) == sorted(set(map(without_commands, names)))
    assert labels_of("|".join(names)) == sorted(names)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("a||b", "has an empty label"),
        ("", "has an empty label"),
        ('["a", ', "is no list of labels"),
        ('[["a"]]', "is no list of labels"),
        ("[" * 100_000, "is no list of labels"),
        ('["\\ud800"]', "has a label that is not UTF-8"),
        (f"a|{'b' * 1_001}", "or has more than 1,000 characters"),
        ("|".join(map(str, range(5 * MOST_AT_ONCE))), "5,000 labels at once, expected at most 1,000"),
    ],
)
def test_cell_that_holds_no_labels_is_refused_in_one_short_line(cell, message):
    with pytest.raises(ValueError, match=message) as raised:
        TARGET.read(cell)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


def test_truths_have_a_column_a_label_and_none_where_the_cell_is_missing():
    truths = TARGET.encode(pd.Series(['["loop"]', None, "[]"]))
    assert TARGET.has_label(truths).tolist() == [True, False, True]
    assert truths[[0, 2]].tolist() == [[0, 1, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match="the manifest has label 'round', expected some of even, loop, prime"):
        TARGET.encode(pd.Series(['["round"]']))


def test_calibration_finds_slope_and_shift_and_lowers_the_loss():
    logits, truths = problem(n=4000, seed=0, slope=0.4, shift=-1.0)
    calibrated, temperature = TARGET.calibrate(logits, truths, doubt=0.0)
    assert calibrated.slopes == pytest.approx([0.4] * 3, abs=0.08)
    assert calibrated.shifts == pytest.approx([-1.0] * 3, abs=0.2)
    assert temperature == 1.0
    others = problem(n=4000, seed=1, slope=0.4, shift=-1.0)
    assert calibrated.losses(*others).mean() < TARGET.losses(*others).mean() - 0.05


@given(st.integers(0, 1000))
def test_no_threshold_has_a_higher_f1(seed):
    generator = np.random.default_rng(seed)
    probabilities = generator.random((40, 1)).round(2)
    truths = (generator.random((40, 1)) < 0.1 + 0.6 * probabilities).astype(float)
    [threshold] = best_thresholds(probabilities, truths)

    def f1(at):
        said = probabilities >= at
        return 2 * (said * truths).sum() / (said.sum() + truths.sum())

    if 5 <= truths.sum() <= 35:
        assert f1(threshold) == pytest.approx(max(f1(at) for at in np.arange(0, 1.01, 0.005)))
    else:
        assert threshold == 0.5


def test_label_with_too_few_samples_on_val_stays_as_it_is():
    logits, truths = problem(n=200, seed=0, slope=0.4)
    truths[:, 1] = 0
    calibrated, _ = TARGET.calibrate(logits, truths)
    assert (calibrated.slopes[1], calibrated.shifts[1], calibrated.thresholds[1]) == (1.0, 0.0, 0.5)
    assert calibrated.slopes[0] != 1.0


def test_empty_val_changes_no_answer():
    calibrated, temperature = TARGET.calibrate(np.empty((0, 3)), np.empty((0, 3)))
    logits, _ = problem(n=5, seed=0)
    assert np.array_equal(calibrated.answers(logits, temperature=temperature), TARGET.answers(logits, temperature=1.0))
    assert calibrated.thresholds == (0.5, 0.5, 0.5)


def test_labels_that_val_separates_get_no_endless_slope():
    logits = np.concatenate([np.full((20, 3), -1.0), np.full((20, 3), 1.0)])
    calibrated, _ = TARGET.calibrate(logits, (logits > 0).astype(float))
    assert np.isfinite(calibrated.slopes).all()
    assert (calibrated.answers(logits, temperature=1.0) < 1).all()


def test_exported_answers_are_those_of_numpy():
    logits, truths = problem(n=500, seed=0, slope=0.5)
    calibrated, _ = TARGET.calibrate(logits, truths)
    exported = calibrated.deployed(torch.from_numpy(logits), temperature=1.0).numpy()
    assert exported == pytest.approx(calibrated.answers(logits, temperature=1.0), abs=1e-6)


def test_error_is_the_share_of_wrong_labels_and_right_are_all_of_them():
    answers = np.array([[0.9, 0.1, 0.2], [0.9, 0.9, 0.2]])
    truths = np.array([[1, 0, 1], [1, 1, 0]])
    assert TARGET.errors(answers, truths) == pytest.approx([1 / 3, 0])
    assert TARGET.is_right(answers, truths).tolist() == [False, True]
    assert TARGET.shown(answers) == ['["even"]', '["even","loop"]']


def test_loss_in_training_is_that_of_numpy_without_missing_rows():
    logits, truths = problem(n=6, seed=0)
    some = torch.from_numpy(truths).clone()
    some[2] = float("nan")
    kept = [0, 1, 3, 4, 5]
    assert float(TARGET.summed_loss(torch.from_numpy(logits), some)) == pytest.approx(
        TARGET.losses(logits, truths)[kept].sum()
    )


def test_thresholds_of_a_model_judge_its_own_labels():
    known = Several(("loop", "round"), thresholds=(0.2, 0.3))
    answers, judge = known.aligned(np.array([[0.25, 0.9]]), TARGET)
    assert answers.tolist() == [[0, 0.25, 0]]
    assert judge.thresholds == (0.5, 0.2, 0.5)
