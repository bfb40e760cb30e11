"""The classes' shares of an unlabelled domain."""

import numpy as np
import pytest

from tasks.training.alignment.shares import estimate_shares, histogram_p_value, resampled


def test_the_shares_of_a_domain_are_found_from_honest_answers():
    """Two classes of one feature, a normal distribution each; the posterior of equal shares is known."""
    generator = np.random.default_rng(0)
    labels = generator.random(4000) < 0.9
    values = np.where(labels, 1.0, -1.0) + generator.standard_normal(4000)
    odds = 2 * values
    log_p = -np.logaddexp(0, np.stack([odds, -odds], axis=1))
    assert estimate_shares(log_p, np.array([0.5, 0.5])) == pytest.approx([0.1, 0.9], abs=0.02)


def test_few_samples_move_the_shares_little():
    log_p = np.log(np.tile([0.01, 0.99], (2, 1)))
    assert estimate_shares(log_p, np.array([0.5, 0.5]))[0] > 0.4


def test_the_test_of_histograms_tells_chance_from_a_shift():
    generator = np.random.default_rng(0)
    even, same, uneven = (generator.choice(3, 200, p=p) for p in ([1 / 3] * 3, [1 / 3] * 3, [0.8, 0.1, 0.1]))
    assert histogram_p_value(even, same, num_classes=4) > 0.01 > histogram_p_value(even, uneven, num_classes=4)
    assert histogram_p_value(even, np.empty(0, np.int64), num_classes=4) == 1


def test_resampling_gives_the_wanted_shares():
    labels = np.repeat([0, 1], [6000, 4000])
    kept = resampled(labels, np.array([0.5 / 0.6, 0.5 / 0.4]), seed=0)
    assert labels[kept].mean() == pytest.approx(0.5, abs=0.02)
