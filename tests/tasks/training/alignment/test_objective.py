"""The loss that labels, a pull and information make, and its slope."""

import numpy as np
import pytest
from scipy.optimize import check_grad

from tasks.training.alignment.objective import Answered, cross_entropy, fit_layer, information_of


@pytest.mark.parametrize("of", ["labels", "information", "information at shares"])
def test_the_slope_is_that_of_the_loss(of):
    generator = np.random.default_rng(0)
    logits = generator.standard_normal((9, 4))
    rows = Answered(
        vectors=np.empty((9, 1), np.float32), shares=generator.dirichlet(np.ones(4), 9), weights=generator.random(9)
    )

    def function(flat):
        at = flat.reshape(9, 4)
        if of == "labels":
            return cross_entropy(rows, at)
        return information_of(at, None if of == "information" else np.array([0.4, 0.3, 0.2, 0.1]))

    error = check_grad(lambda flat: function(flat)[0], lambda flat: function(flat)[1].ravel(), logits.ravel())
    assert error < 1e-6


def test_a_strong_pull_leaves_the_layer_where_it_is():
    generator = np.random.default_rng(0)
    rows = Answered.labelled(generator.standard_normal((20, 3)).astype(np.float32), np.arange(20) % 2, num_classes=2)
    towards = generator.standard_normal((2, 3)), np.zeros(2)
    near, _ = fit_layer(rows, start=towards, towards=towards, l2=1e6, most_steps=50)
    free, _ = fit_layer(rows, start=towards, l2=1e-3, most_steps=50)
    assert np.abs(near - towards[0]).max() < 1e-3 < np.abs(free - towards[0]).max()


def test_a_row_without_weight_changes_nothing():
    generator = np.random.default_rng(0)
    vectors, labels = generator.standard_normal((20, 3)).astype(np.float32), np.arange(20) % 2
    weights = np.where(np.arange(20) < 15, 1 / 15, 0.0)
    start = np.zeros((2, 3)), np.zeros(2)
    layers = [
        fit_layer(Answered.labelled(x, y, num_classes=2, weights=w), start=start, l2=0.1, most_steps=100)
        for x, y, w in ((vectors, labels, weights), (vectors[:15], labels[:15], weights[:15]))
    ]
    np.testing.assert_allclose(layers[0][0], layers[1][0], atol=1e-5)


def test_information_at_shares_is_most_for_sure_answers_that_have_these_shares():
    sure = 50 * np.eye(2)[[0, 0, 0, 1]]
    shares = np.array([0.75, 0.25])
    assert information_of(sure, shares)[0] == pytest.approx(0, abs=1e-9)
    assert information_of(sure[2:], shares)[0] < -0.1
    assert information_of(sure / 50, shares)[0] < -0.1
