import numpy as np
import pytest

from tasks.metrics.accuracy import wilson
from tasks.metrics.bootstrap import intervals_of, measure_once


def mean_of(values):
    return lambda weights: {"mean": weights @ values / np.maximum(weights.sum(axis=1), 1)}


def find(measures, n, *, seed=0, num_outputs=1, num_resamples=400):
    return intervals_of(
        measures, measure_once(measures, n=n), n=n, num_outputs=num_outputs, confidence=0.95,
        num_resamples=num_resamples, generator=np.random.default_rng(seed),
    )  # fmt: skip


def test_interval_holds_the_true_mean_of_skewed_errors_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    held = []
    for _ in range(200):
        low, high = find(mean_of(generator.exponential(3.0, 150)), 150)["mean"]
        held.append(low <= 3.0 <= high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.045)


def test_share_of_answers_that_are_all_right_still_has_an_interval():
    ends = find(lambda weights: {"all_right": np.ones(len(weights))}, 84)
    assert ends["all_right"] == wilson(84, 84, confidence=0.95)


def test_measure_without_a_value_has_no_interval():
    def measures(weights):
        return {"r2": np.full(len(weights), np.nan)}

    assert measure_once(measures, n=3) == {"r2": None}
    assert find(measures, 3) == {}


def test_thousands_of_labels_have_fewer_resamples():
    drawn = []

    def measures(weights):
        drawn.append(len(weights))
        return {"hamming": weights.mean(axis=1)}

    find(measures, 10_000, num_outputs=1_000, num_resamples=1_000)
    assert sum(drawn[1:]) == 100
