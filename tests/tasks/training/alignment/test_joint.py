"""A shift of the features and of the classes' shares at once is seen and undone, and a shift of one alone is none."""

import numpy as np
import pytest

from tasks.training.alignment.adaptation import Problem, adapt
from tasks.training.alignment.joint import distance, have_shares_moved, standardised_shares
from tests.kit.domains import accuracy, asked, domains

UNEVEN = (0.1, 0.3, 0.6)


def problem_of(**shift):
    found, labels = domains(num=600, **shift)
    return Problem(found, asked(), seed=0), labels


def test_shares_at_standardised_features_are_nearer_than_those_of_the_sources_and_need_not_know_the_shift():
    problem, labels = problem_of(move=0.7, shares=UNEVEN)
    far, _ = problem_of(move=3.0, stretch=2.0, shares=UNEVEN)
    true = np.bincount(labels) / len(labels)
    estimates = [standardised_shares(one.standardised, one.domains, one.standardised_base) for one in (problem, far)]
    assert distance(estimates[0], true) < distance(problem.domains.shares, true) / 2
    assert estimates[0] == pytest.approx(estimates[1], abs=0.02)


def test_method_joint_beats_the_undoing_of_one_shift_alone():
    problem, labels = problem_of(move=0.7, shares=UNEVEN)
    heads = {
        method: adapt(problem.domains, asked(method=method), seed=0).head
        for method in ("joint", "infomax", "label_shift", "source")
    }
    vectors = problem.domains.target.vectors
    accuracies = {method: accuracy(head, vectors, labels) for method, head in heads.items()}
    assert accuracies["joint"] > max(accuracies[method] for method in ("infomax", "label_shift", "source")) + 0.02
    assert heads["joint"].facts["estimated"].keys() == heads["joint"].facts["shares"].keys()


PLAIN, MOVED, INFORMED = ([0.7, 0.2, 0.1], [0.75, 0.18, 0.07], [0.4, 0.35, 0.25])


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ({}, True),
        ({"standardised": [0.36, 0.34, 0.3]}, False),
        ({"plain": [0.1, 0.2, 0.7]}, False),
        ({"informed": [0.7, 0.2, 0.1]}, False),
        ({"log_p": np.log(np.full((9, 3), [0.3, 0.34, 0.36]))}, False),
    ],
    ids=["all agree", "hardly any shift", "other shares as they are", "infomax is nearer", "a head that is unsure"],
)
def test_shares_are_trusted_where_the_estimates_agree(change, moved):
    problem, _ = problem_of()
    sure = np.log(np.full((9, 3), 0.01) + 0.97 * np.eye(3)[np.arange(9) % 3])
    given = {"log_p": sure, "plain": PLAIN, "standardised": MOVED, "informed": INFORMED} | change
    log_p, *shares = (np.asarray(given[name]) for name in ("log_p", "plain", "standardised", "informed"))
    plain, standardised, informed = shares
    seen = have_shares_moved(
        problem.domains, log_p, plain=plain, standardised=standardised, informed=informed, least_moved=0.25
    )
    assert seen is moved


def test_auto_names_the_joint_shift_where_the_estimates_agree():
    problem, _ = problem_of(move=0.3, shares=(0.15, 0.7, 0.15))
    found = adapt(problem.domains, asked(), seed=0).head
    assert found.method == "joint"
    assert "shares with them" in found.facts["reason"]
    assert found.facts["separation_at_shares"]["auc"] > 0.6
