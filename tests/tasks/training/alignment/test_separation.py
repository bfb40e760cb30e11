"""The classifier of domains sees a shift, and none where there is none."""

import numpy as np

from tasks.training.alignment.separation import tell_apart


def test_no_shift_is_seen_in_draws_of_one_domain():
    alarms = 0
    for seed in range(12):
        vectors = np.random.default_rng(seed).standard_normal((240, 40))
        found = tell_apart(vectors[:200], vectors[200:], seed=seed)
        alarms += found.auc >= 0.6 and found.z >= 3
    assert alarms == 0


def test_a_shift_of_the_mean_is_seen():
    generator = np.random.default_rng(0)
    found = tell_apart(generator.standard_normal((300, 40)), generator.standard_normal((100, 40)) + 0.5, seed=0)
    assert found.auc > 0.9
    assert found.z > 3


def test_too_few_samples_tell_nothing():
    assert tell_apart(np.zeros((300, 4)), np.ones((3, 4)), seed=0).z == 0


def test_z_of_draws_of_one_domain_is_as_far_from_zero_as_chance_makes_it():
    """Both halves err together: with the error of independent halves the deviation would be 1.3."""
    scores = []
    for seed in range(100):
        vectors = np.random.default_rng(seed).standard_normal((80, 6))
        scores.append(tell_apart(vectors[:40], vectors[40:], seed=seed).z)
    assert 0.75 < np.std(scores) < 1.1
    assert np.mean(np.array(scores) > 1.64) < 0.1


def test_more_features_than_samples_are_told_apart_as_few_are():
    """Features that are always zero change nothing."""
    generator = np.random.default_rng(0)
    source, target = generator.standard_normal((90, 40)), generator.standard_normal((50, 40)) + 0.2
    few = tell_apart(source, target, seed=0)
    many = tell_apart(np.pad(source, ((0, 0), (0, 400))), np.pad(target, ((0, 0), (0, 400))), seed=0)
    assert many.auc == few.auc > 0.6
