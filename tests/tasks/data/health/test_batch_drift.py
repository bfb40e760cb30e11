import numpy as np
import pytest

from tasks.data.health.batch_drift import drawn, drift


def vectors(num, *, seed, shift=0.0, scale=1.0):
    made = np.random.default_rng(seed).normal(size=(num, 24)) * scale * np.linspace(2, 0.5, 24)
    made[:, 0] += shift
    return made.astype(np.float32)


def test_batch_of_the_same_kind_has_no_effect_and_no_small_p_value():
    p_values = [drift(vectors(200, seed=n), vectors(200, seed=100 + n), seed=n).p_value for n in range(20)]
    assert np.mean(np.array(p_values) <= 0.1) <= 0.3
    assert 0.3 < np.mean(p_values) < 0.7


def test_shifted_batch_is_told_apart():
    found = drift(vectors(300, seed=0), vectors(300, seed=1, shift=4.0), seed=0)
    assert found.p_value == pytest.approx(1 / 200)
    assert found.effect > 0.6
    assert found.in_words == "large"


def test_batch_that_only_varies_more_is_told_apart():
    found = drift(vectors(300, seed=0), vectors(300, seed=1, scale=1.8), seed=0)
    assert found.p_value == pytest.approx(1 / 200)
    assert found.effect > 0.4


def test_effect_does_not_grow_with_the_number_of_samples():
    effects = [
        np.mean([drift(vectors(num, seed=n), vectors(num, seed=50 + n, shift=1.5), seed=n).effect for n in range(3)])
        for num in (400, 1600)
    ]
    assert abs(effects[0] - effects[1]) < 0.1


def test_too_few_samples_say_nothing():
    assert drift(vectors(300, seed=0), vectors(19, seed=1), seed=0) is None


def test_vectors_that_are_all_equal_are_no_drift():
    found = drift(np.ones((50, 8), np.float32), np.ones((50, 8), np.float32), seed=0)
    assert found.effect == 0


def test_wide_vectors_give_what_their_few_dimensions_give():
    narrow = vectors(60, seed=0), vectors(60, seed=1, shift=4.0)
    wide = tuple(np.concatenate([side, np.zeros((60, 400), np.float32)], axis=1) for side in narrow)
    assert drift(*wide, seed=0).auc == pytest.approx(drift(*narrow, seed=0).auc, abs=1e-3)


def test_rows_are_drawn_anew_alike():
    assert drawn(np.arange(100), seed=3, most=10).tolist() == drawn(np.arange(100), seed=3, most=10).tolist()
    assert drawn(np.arange(5), seed=3, most=10).tolist() == [0, 1, 2, 3, 4]
