import numpy as np
import pytest

from tasks.metrics.accuracy import measure_accuracy, wilson
from tasks.metrics.answered import Answered
from tasks.metrics.bootstrap import measure_once
from tasks.metrics.calibration import reliability, squared_errors
from tasks.metrics.classes import measures
from tasks.metrics.measures import measure_model
from tasks.metrics.options import MeasureOptions
from tasks.targets.classes import Classes


def made_up(n, seed=0, num_classes=3):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(num_classes), n)
    labels = np.array([generator.choice(num_classes, p=row) for row in probabilities])
    return labels, probabilities


def find(labels, probabilities, *, seed=0, groups=None, num_bins=15, num_resamples=500):
    target = Classes(tuple(map(str, range(probabilities.shape[1]))))
    options = MeasureOptions(calibration_bins=num_bins, confidence=0.95, num_resamples=num_resamples)
    measured = measure_model(
        labels, Answered(target=target, answers=probabilities), options=options, leaked=np.zeros(len(labels), bool),
        seed=seed, groups=groups,
    )  # fmt: skip
    return measured["intervals"]


def test_each_interval_contains_the_measured_metric():
    labels, probabilities = made_up(3000)
    ends = find(labels, probabilities)
    measured = measure_accuracy(labels=labels, probabilities=probabilities)
    expected = {name: getattr(measured, name) for name in ("accuracy", "macro_f1", "log_loss")}
    expected["brier"] = squared_errors(labels=labels, probabilities=probabilities).mean()
    assert set(ends) == {*expected, "calibration_error"}
    for name, value in expected.items():
        low, high = ends[name]
        assert low < value < high, name


def test_resample_that_counts_each_sample_once_has_the_metrics_of_the_samples():
    labels, probabilities = made_up(1500, num_classes=4)
    once = measure_once(measures(labels, probabilities, num_bins=15), n=1500)
    measured = measure_accuracy(labels=labels, probabilities=probabilities)
    _, error = reliability(labels=labels, probabilities=probabilities, num_bins=15)
    for name in ("accuracy", "macro_f1", "log_loss"):
        assert once[name] == pytest.approx(getattr(measured, name)), name
    assert once["brier"] == pytest.approx(squared_errors(labels=labels, probabilities=probabilities).mean())
    assert once["calibration_error"] == pytest.approx(error)


def test_width_of_the_log_loss_interval_follows_from_its_standard_error():
    labels, probabilities = made_up(2000)
    low, high = find(labels, probabilities, num_resamples=4000)["log_loss"]
    surprise = -np.log(probabilities[np.arange(2000), labels])
    assert (high - low) / 2 == pytest.approx(1.96 * surprise.std() / np.sqrt(2000), rel=0.1)


def test_accuracy_of_a_flawless_model_still_has_an_interval():
    probabilities = np.repeat([[0.9, 0.1], [0.2, 0.8]], 42, axis=0)
    low, high = find(probabilities.argmax(axis=1), probabilities)["accuracy"]
    assert (low, high) == wilson(84, 84, confidence=0.95)
    assert low < 0.96


def test_equal_seeds_give_equal_intervals_and_others_do_not():
    labels, probabilities = made_up(300)
    assert find(labels, probabilities, seed=1) == find(labels, probabilities, seed=1)
    assert find(labels, probabilities, seed=1) != find(labels, probabilities, seed=2)


def test_brier_score_of_a_sure_and_right_model_is_0_and_of_a_sure_and_wrong_one_2():
    labels = np.array([0, 0])
    assert squared_errors(labels=labels, probabilities=np.array([[1.0, 0.0], [0.0, 1.0]])).tolist() == [0.0, 2.0]


def test_interval_of_samples_that_come_in_groups_is_that_of_as_many_samples_as_groups():
    """Each of 150 samples is there ten times: the intervals are those of the 150, not narrower."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 150)
    probabilities = generator.dirichlet([1, 1], 150)
    options = {"num_bins": 5, "num_resamples": 1000, "seed": 1}
    alone = find(labels, probabilities, **options)
    grouped = find(
        np.repeat(labels, 10), np.repeat(probabilities, 10, axis=0), groups=np.repeat(np.arange(150), 10), **options
    )
    for name, (low, high) in alone.items():
        assert grouped[name] == pytest.approx((low, high), abs=0.15 * (high - low)), name
