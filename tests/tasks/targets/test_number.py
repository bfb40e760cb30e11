from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.targets.kinds import target_of
from tasks.targets.number import LARGEST, Number, conformal, least_for
from tasks.targets.several import Several
from tasks.training.finetuning.tuning import label_tensor

TARGET = Number(measure="degrees", centre=10.0, scale=4.0)
DRAWS = {
    "normal": lambda generator, n: generator.normal(size=n),
    "heavy": lambda generator, n: generator.standard_t(1.5, size=n),
    "skewed": lambda generator, n: generator.exponential(size=n) ** 2,
    "two values": lambda generator, n: generator.integers(0, 2, n).astype(float),
}


@given(st.floats(-LARGEST, LARGEST))
def test_number_comes_back_from_its_text(value):
    text = TARGET.read(f" {value!r} ")
    assert TARGET.encode(pd.Series([text]))[0] == value
    assert TARGET.read(text) == text


@pytest.mark.parametrize("cell", ["", "warm", "1_000", "1,5", "0x10"])
def test_text_that_is_no_number_is_refused(cell):
    with pytest.raises(ValueError, match=r"is no number, expected one such as -12\.5"):
        TARGET.read(cell)


@pytest.mark.parametrize("cell", ["nan", "inf", "-Infinity", "1e31"])
def test_number_that_is_not_finite_is_refused(cell):
    with pytest.raises(ValueError, match=r"is .*, expected a number up to 1e\+30"):
        TARGET.read(cell)


@pytest.mark.parametrize(("truths", "found"), [([], "no number"), ([3.0, 3.0], "the one number 3")])
def test_train_without_two_numbers_is_refused(truths, found):
    with pytest.raises(ValueError, match=f"train has {found}, expected at least two different ones"):
        Number().standardised(np.array(truths))


def test_numbers_that_differ_by_less_than_a_scale_can_say_are_refused():
    with pytest.raises(ValueError, match="train has numbers that differ by 1e-200 at most: give them in another unit"):
        Number().standardised(np.array([0.0, 1e-200]))


@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_target_with_the_largest_numbers_comes_back_from_its_facts(loss):
    truths = LARGEST * np.array([1.0, -1.0, 1.0, -1.0, 0.0])
    target, _ = Number(loss=loss).standardised(truths).calibrate(np.ones((5, 1)), truths)
    assert target_of(target.facts()) == target


def test_small_differences_beside_a_large_number_are_learned_and_judged_exactly():
    target = Number(centre=2e9, scale=1.0)
    labels = label_tensor(pd.DataFrame({"time": ["2000000001.5", None]}), {"time": target})
    assert target.truths_of(labels[:1].numpy())[0] == 2e9 + 1.5
    logits = torch.ones(2, 1)
    assert float(target.summed_loss(logits, labels)) == pytest.approx(0.5**2 / 2)
    assert target.summed_loss(logits, labels).dtype == logits.dtype
    mixed = label_tensor(pd.DataFrame({"tags": ['["a"]']}), {"tags": Several(("a",))}).double()
    assert Several(("a",)).summed_loss(logits[:1], mixed).dtype == logits.dtype


def test_number_far_off_does_not_widen_the_scale_of_a_robust_loss():
    truths = np.append(np.random.default_rng(0).normal(5, 2, 999), 1e6)
    robust = Number(loss="huber").standardised(truths)
    assert (robust.centre, robust.scale) == (pytest.approx(5, abs=0.3), pytest.approx(2, abs=0.2))
    assert Number().standardised(truths).scale > 10_000
    mostly_one = np.array([1.0] * 9 + [2.0])
    assert Number(loss="huber").standardised(mostly_one).scale == mostly_one.std()


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_interval_holds_its_level_of_unseen_errors_whatever_their_distribution(draw, level):
    covered = []
    for seed in range(300):
        generator = np.random.default_rng(seed)
        low, high = conformal(DRAWS[draw](generator, 40), level=level)
        unseen = DRAWS[draw](generator, 40)
        covered.append(((low <= unseen) & (unseen <= high)).mean())
    assert np.mean(covered) > level - 0.01
    if draw != "two values":
        assert np.mean(covered) < level + 0.06


def test_interval_of_too_few_errors_spans_them_all():
    assert (least_for(0.9), least_for(0.5)) == (19, 3)
    errors = np.array([3.0, -1.0, 2.0])
    assert conformal(errors, level=0.9) == (-1.0, 3.0)
    wide = conformal(np.arange(least_for(0.9), dtype=float), level=0.9)
    assert wide == (0.0, least_for(0.9) - 1.0)


def test_answer_has_its_interval_in_the_unit_of_the_number():
    generator = np.random.default_rng(0)
    truths = generator.normal(10, 4, 2000)
    logits = (truths[:, None] - 10) / 4 + generator.normal(scale=0.5, size=(2000, 1))
    target, temperature = TARGET.calibrate(logits, truths)
    answers = target.answers(logits, temperature=temperature)
    assert ((answers[:, 1] <= truths) & (truths <= answers[:, 2])).mean() == pytest.approx(0.9, abs=0.01)
    assert (answers[:, 2] - answers[:, 1]) == pytest.approx(2 * 1.645 * 2, rel=0.1)
    assert target.errors(answers, truths).mean() == pytest.approx(2 * 0.8, rel=0.1)


def test_empty_val_gives_an_interval_without_width():
    target, temperature = TARGET.calibrate(np.empty((0, 1)), np.empty(0))
    assert (target, temperature) == (TARGET, 1.0)
    assert target.answers(np.array([[0.5]]), temperature=1.0).tolist() == [[12, 12, 12]]


def test_answer_within_the_tolerance_is_right():
    answers = np.array([[10.0, 9, 11], [10.0, 9, 11]])
    truths = np.array([11.9, 12.1])
    assert TARGET.is_right(answers, truths).tolist() == [True, False]  # half a standard deviation
    assert replace(TARGET, tolerance=3.0).is_right(answers, truths).all()
    assert TARGET.constant(np.array([1.0, 2.0, 30.0])).tolist() == [[2, 2, 2]]


@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_loss_in_training_is_that_of_numpy_without_missing_numbers(loss):
    target = replace(TARGET, loss=loss)
    logits, truths = np.array([[0.0], [1.0], [9.0]]), np.array([11.0, 10.0, 12.0])
    some = torch.tensor([[11.0], [float("nan")], [12.0]], dtype=torch.float64)
    assert float(target.summed_loss(torch.from_numpy(logits), some)) == pytest.approx(
        target.losses(logits, truths)[[0, 2]].sum()
    )


def test_exported_answers_are_those_of_numpy():
    target = replace(TARGET, interval=(-1.0, 2.0))
    logits = np.random.default_rng(0).normal(size=(9, 1))
    exported = target.deployed(torch.from_numpy(logits), temperature=1.0).numpy()
    assert exported == pytest.approx(target.answers(logits, temperature=1.0))


def test_numbers_of_another_unit_are_not_compared():
    assert TARGET.aligned(np.ones((1, 3)), Number(measure="metres")) is None
    assert TARGET.aligned(np.ones((1, 3)), Number(measure="degrees", level=0.5)) is not None
