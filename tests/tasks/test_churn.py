import numpy as np
import pytest

from tasks.churn import measure_churn

RIGHT = np.array([[1, 1, 1, 0, 1, 1], [1, 1, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1]], dtype=bool)


def test_churn_is_the_share_of_answers_that_turn_wrong_between_two_retrainings():
    found = measure_churn(RIGHT, significance=0.05)
    assert found.mean == found.highest == pytest.approx(1 / 6)


def test_equal_pairs_leave_no_room_above_their_mean():
    assert measure_churn(RIGHT, significance=0.05).budget == pytest.approx(1 / 6)


def test_budget_is_passed_by_about_as_many_more_retrainings_as_it_says():
    generator = np.random.default_rng(0)
    passed = []
    for _ in range(300):
        skill = generator.beta(0.9, 0.1, size=400)  # of each sample
        is_right = generator.random((6, 400)) < skill
        found = measure_churn(is_right[:5], significance=0.05)
        passed.append((is_right[0] & ~is_right[5]).mean() > found.budget)
    assert np.mean(passed) < 0.1


def test_too_few_retrainings_are_refused():
    with pytest.raises(ValueError, match="there are 2 retrainings, expected at least 3"):
        measure_churn(RIGHT[:2], significance=0.05)
