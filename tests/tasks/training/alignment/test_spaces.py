"""A layer in the space where domains are compared is folded into one for vectors as they are."""

import numpy as np
import pytest

from tasks.training.alignment.spaces import as_they_are, correlated, scaled, standardised, with_shares
from tests.kit.domains import CLASSES, DIM, domains

MOVED = {"move": 3.0, "stretch": 2.0}


def reshared(problem):
    return with_shares(standardised(problem), problem.labels, np.array([2.0, 0.5, 0.5]))


@pytest.mark.parametrize("space_of", [as_they_are, lambda problem: scaled(problem)[0], standardised, reshared])
def test_a_folded_layer_gives_the_logits_of_the_space(space_of):
    problem, _ = domains(**MOVED)
    space = space_of(problem)
    weight, bias = np.random.default_rng(0).standard_normal((len(CLASSES), DIM)), np.arange(3.0)
    own, shift = space.fold(weight, bias)
    logits = problem.target.vectors @ own.T + shift
    np.testing.assert_allclose(logits, space.target @ weight.T + bias, atol=1e-4)


def test_standardised_domains_have_the_same_moments_and_keep_the_root_of_the_deviation():
    problem, _ = domains(num=2000, **MOVED)
    space = standardised(problem)
    assert np.abs(space.train.mean(axis=0)).max() < 1e-5
    assert np.abs(space.target.mean(axis=0)).max() < 0.1
    deviations = [part.std(axis=0) for part in (problem.sources[0].train[0], space.train, space.target)]
    np.testing.assert_allclose(deviations[2], deviations[1], rtol=0.25)
    ratio = deviations[1] ** 2 / deviations[0]
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-3)


def test_correlated_sources_have_the_moments_of_the_target():
    space = correlated(domains(num=2000, **MOVED)[0])
    np.testing.assert_allclose(space.train.mean(axis=0), space.target.mean(axis=0), atol=1e-3)
    ours, theirs = (np.cov(part.T) for part in (space.train, space.target))
    assert np.linalg.norm(ours - theirs) < 0.2 * np.linalg.norm(theirs)


def test_where_only_the_shares_moved_nothing_is_undone_at_the_right_shares():
    """Plain standardisation takes the other mix of classes for a shift of the features."""
    uneven = (0.8, 0.15, 0.05)
    problem, labels = domains(num=3000, shares=uneven)
    ratios = np.array(uneven) / problem.shares
    plain = standardised(problem)
    right = with_shares(plain, problem.labels, ratios)
    centres = np.stack([plain.train[problem.labels == label].mean(axis=0) for label in range(3)])
    apart = [
        np.abs(np.stack([space.target[labels == label].mean(axis=0) for label in range(3)]) - centres).mean()
        for space in (right, plain)
    ]
    assert apart[0] < 0.5 * apart[1]
