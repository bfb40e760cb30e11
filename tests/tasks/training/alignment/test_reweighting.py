"""Source samples count as much as they resemble the target."""

import numpy as np
import pytest

from tasks.training.alignment.reweighting import classifier_weights, effective_samples, flattened, kernel_weights


@pytest.mark.parametrize("weights_of", [classifier_weights, kernel_weights])
def test_weights_bring_the_mean_of_the_source_to_that_of_the_target(weights_of):
    generator = np.random.default_rng(0)
    source = generator.standard_normal((600, 3)).astype(np.float32)
    target = (generator.standard_normal((300, 3)) * 0.7 + [0.7, 0, 0]).astype(np.float32)
    weights = weights_of(source, target, seed=0)
    assert weights.mean() == pytest.approx(1)
    assert (weights @ source / len(source))[0] == pytest.approx(0.7, abs=0.25)
    assert 100 < effective_samples(weights) < 500


@pytest.mark.parametrize("weights_of", [classifier_weights, kernel_weights])
def test_no_weight_is_left_where_no_source_sample_resembles_the_target(weights_of):
    generator = np.random.default_rng(0)
    source, target = (generator.standard_normal((50, 3)).astype(np.float32) + move for move in (0, 500))
    assert effective_samples(weights_of(source, target, seed=0)) == 0


def test_flat_weights_are_worth_a_share_of_the_samples_and_keep_their_order():
    weights = np.exp(np.random.default_rng(0).normal(0, 4, 200))
    flat = flattened(weights)
    assert effective_samples(weights) < 20
    assert effective_samples(flat) == pytest.approx(60, abs=0.5)
    assert (np.argsort(flat) == np.argsort(weights)).all()


def test_equal_weights_are_worth_all_samples():
    assert effective_samples(np.full(40, 0.3)) == pytest.approx(40)
