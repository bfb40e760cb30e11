import numpy as np
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, log_loss, mean_absolute_error

from tasks.metrics.answered import Answered
from tasks.metrics.bootstrap import measure_once
from tasks.metrics.ordinal import details, measures, parts
from tasks.targets.ordinal import Ordinal
from tests.kit.draws import check_draws

TARGET = Ordinal(("poor", "fair", "good", "superb"))


def made_up(n=400, seed=0):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(4), n)
    return Answered(probabilities, TARGET), np.array([generator.choice(4, p=row) for row in probabilities])


def test_measures_are_those_of_scikit_learn():
    answered, truths = made_up()
    steps = TARGET.step_of(answered.answers)
    measured = measure_once(measures(answered, truths, num_bins=15), n=len(truths))
    assert measured["accuracy"] == pytest.approx(accuracy_score(truths, steps))
    assert measured["mean_distance"] == pytest.approx(mean_absolute_error(truths, steps))
    assert measured["quadratic_kappa"] == pytest.approx(cohen_kappa_score(truths, steps, weights="quadratic"))
    assert measured["log_loss"] == pytest.approx(log_loss(truths, answered.answers))


def test_sample_that_is_drawn_twice_counts_twice():
    check_draws(measures, *made_up(60))


def test_kappa_of_a_single_step_has_no_value():
    answered = Answered(np.eye(4)[[1, 1]], TARGET)
    assert measure_once(measures(answered, np.array([1, 1]), num_bins=15), n=2)["quadratic_kappa"] is None


def test_recall_and_parts_are_in_the_order_of_the_scale_and_leave_out_steps_without_samples():
    answered = Answered(np.eye(4)[[3, 0, 0]], TARGET)
    truths = np.array([3, 0, 1])
    assert details(answered, truths) == {"recall": {"poor": 1.0, "fair": 0.0, "superb": 1.0}}
    assert [name for name, _ in parts(truths, TARGET)] == ["poor", "fair", "superb"]
