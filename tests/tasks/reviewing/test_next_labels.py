"""Samples in doubt are found by the margin, and those that no labelled one is near by k-centre."""

import numpy as np
import pytest

from tasks.reviewing.next_labels import choose, k_centre, least_margins, margins_of, unit_rows
from tasks.targets.classes import Classes
from tasks.targets.number import Number
from tasks.targets.several import Several


def circle(*degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_k_centre_takes_the_farthest_from_the_centres_and_from_what_it_took():
    pool = circle(5, 80, 90, 178, 185)
    assert k_centre(pool, circle(0), count=2).tolist() == [3, 2]


def test_k_centre_covers_within_twice_the_best_radius():
    """Gonzalez 1985: the greedy choice is at most twice as far from the farthest sample as the best one."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 8)) * 4
    pool = unit_rows(np.concatenate([centre + rng.normal(size=(40, 8)) for centre in centres]))
    chosen = pool[k_centre(pool, pool[:0], count=5)]
    best = pool[np.arange(5) * 40]

    def radius(of):
        return np.sqrt(np.maximum(2 - 2 * pool @ of.T, 0)).min(axis=1).max()

    assert radius(chosen) <= 2 * radius(best)


def test_no_sample_is_chosen_twice_even_where_all_are_equal():
    pool = np.ones((6, 3), dtype=np.float16)
    choice = choose(pool, pool[:1], np.zeros(6), count=6, coverage=0.5, seed=0)
    assert sorted(choice.positions.tolist()) == list(range(6))


def test_small_pool_is_chosen_whole_and_the_mix_follows_the_share():
    pool = circle(*range(0, 100, 10))
    margins = np.arange(10)[::-1] / 10
    choice = choose(pool, circle(0), margins, count=4, coverage=0.25, seed=0)
    assert choice.positions[:3].tolist() == [9, 8, 7]
    assert choice.is_coverage.tolist() == [False, False, False, True]
    assert len(choose(pool, circle(0), margins, count=99, coverage=0.5, seed=0).positions) == 10


def test_margin_of_each_kind_is_small_where_the_answer_may_be_another():
    classes = margins_of(np.array([[0.5, 0.4, 0.1], [0.9, 0.05, 0.05]]), Classes(("a", "b", "c")))
    assert classes == pytest.approx([0.1, 0.85])
    several = margins_of(np.array([[0.9, 0.35], [0.9, 0.1]]), Several(("a", "b"), thresholds=(0.5, 0.3)))
    assert several == pytest.approx([0.05, 0.2])
    assert margins_of(np.array([[1.0, 0.0, 2.0]]), Number()) is None


def test_sample_counts_by_the_target_that_is_the_least_sure_of_it():
    answers = {
        "one": np.array([[0.99, 0.01], [0.6, 0.4], [0.9, 0.1]]),
        "two": np.array([[0.5, 0.5], [0.9, 0.1], [0.8, 0.2]]),
    }
    targets = {"one": Classes(("a", "b")), "two": Classes(("a", "b"))}
    assert least_margins(answers, targets).tolist() == [0, 0, pytest.approx(1 / 3)]
    assert least_margins({"n": np.zeros((2, 3))}, {"n": Number()}) is None
