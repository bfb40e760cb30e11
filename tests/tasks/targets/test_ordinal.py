import numpy as np
import pandas as pd
import pytest
import torch

from tasks.targets.ordinal import Ordinal

TARGET = Ordinal(("poor", "fair", "good", "fine"))
THRESHOLDS = np.array([-2.0, 0.0, 1.5])


def problem(*, n, seed, scale=1.0):
    """Logits (n, 3) of scores under proportional odds, blown up by `scale`, and the steps."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(scale=2, size=n)
    steps = np.digitize(scores + generator.logistic(size=n), THRESHOLDS)
    return scale * (scores[:, None] - THRESHOLDS), steps


def test_step_that_is_not_of_the_scale_is_refused():
    assert TARGET.read(" good ") == "good"
    with pytest.raises(ValueError, match="'great' is no step, expected one of poor, fair, good, fine"):
        TARGET.read("great")
    with pytest.raises(ValueError, match="the manifest has step 'great'"):
        TARGET.encode(pd.Series(["good", "great"]))
    assert TARGET.encode(pd.Series(["fine", None])).tolist() == [3, -1]


def test_probabilities_of_the_steps_are_those_of_the_cumulative_logits():
    logits, _ = problem(n=50, seed=0)
    answers = TARGET.answers(logits, temperature=1.0)
    assert answers.sum(axis=1) == pytest.approx(1)
    assert answers[:, 2:].sum(axis=1) == pytest.approx(1 / (1 + np.exp(-logits[:, 1])))


def test_outputs_out_of_order_give_probabilities_all_the_same():
    answers = TARGET.answers(np.array([[0.0, 3.0, -1.0]]), temperature=1.0)
    assert (answers >= 0).all()
    assert answers.sum() == pytest.approx(1)


def test_median_step_has_the_least_expected_distance():
    generator = np.random.default_rng(0)
    answers = generator.dirichlet(np.ones(4), size=200)
    distances = np.abs(np.arange(4)[:, None] - np.arange(4)) @ answers.T  # (said, n)
    assert np.take_along_axis(distances, TARGET.step_of(answers)[None], axis=0)[0] == pytest.approx(
        distances.min(axis=0)
    )


def test_error_is_the_distance_in_steps():
    answers = np.eye(4)[[0, 3, 2]]
    assert TARGET.errors(answers, np.array([0, 1, 3])).tolist() == [0, 2, 1]
    assert TARGET.is_right(answers, np.array([0, 1, 3])).tolist() == [True, False, False]
    assert TARGET.constant(np.array([0, 1, 1, 3])).argmax() == 1


def test_temperature_that_made_the_logits_too_sure_is_found():
    logits, steps = problem(n=4000, seed=0, scale=3.0)
    target, temperature = TARGET.calibrate(logits, steps, doubt=0.0)
    assert target == TARGET
    assert temperature == pytest.approx(3.0, rel=0.1)
    assert TARGET.losses(logits, steps, temperature=temperature).mean() < TARGET.losses(logits, steps).mean()


def test_empty_val_leaves_the_temperature():
    assert TARGET.calibrate(np.empty((0, 3)), np.empty(0, np.int64)) == (TARGET, 1.0)


def test_exported_answers_are_those_of_numpy_even_out_of_order():
    logits = np.random.default_rng(0).normal(size=(50, 3))
    exported = TARGET.deployed(torch.from_numpy(logits), temperature=1.3).numpy()
    assert exported == pytest.approx(TARGET.answers(logits, temperature=1.3), abs=1e-6)


def test_loss_in_training_leaves_missing_steps_out_and_falls_towards_the_truth():
    logits, steps = problem(n=40, seed=0)
    truths = torch.from_numpy(steps).float()[:, None]
    whole = float(TARGET.summed_loss(torch.from_numpy(logits), truths))
    last = float(TARGET.summed_loss(torch.from_numpy(logits[-1:]), truths[-1:]))
    truths[-1] = float("nan")
    assert float(TARGET.summed_loss(torch.from_numpy(logits), truths)) == pytest.approx(whole - last)
    assert float(TARGET.summed_loss(torch.from_numpy(-logits), truths)) > whole


def test_scales_are_compared_only_where_they_have_the_same_steps():
    assert TARGET.aligned(np.eye(4), Ordinal(("poor", "fair", "good"))) is None
    assert TARGET.aligned(np.eye(4), TARGET)[1] == TARGET


def test_message_about_an_unknown_step_of_a_long_scale_is_short():
    target = Ordinal(tuple(f"{number:05d}" + "x" * 500 for number in range(1000)))
    with pytest.raises(ValueError, match="no step, expected one of 00000x") as raised:
        target.read("huge")
    assert len(str(raised.value)) < 2000
    with pytest.raises(ValueError, match="the manifest has step 'huge'") as raised:
        target.encode(pd.Series(["huge"]))
    assert len(str(raised.value)) < 2000
