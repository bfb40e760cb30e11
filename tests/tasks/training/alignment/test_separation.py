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
