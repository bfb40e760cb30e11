import pytest

from tasks.gate.tries import lead_of_try, level_of_try


def test_all_tries_together_are_wrong_with_the_chance_that_is_allowed():
    spent = sum(level_of_try(0.05, earlier=number) for number in range(100_000))
    assert 0.039 < spent < 0.05


def test_each_try_is_tested_more_strictly():
    levels = [level_of_try(0.05, earlier=earlier) for earlier in (0, 0.5, 1, 1.5, 2, 10)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == pytest.approx(0.035)


def test_first_try_passes_where_it_is_not_behind_and_further_ones_where_they_are_ahead():
    assert [lead_of_try(earlier=earlier) for earlier in (0, 1, 2)] == pytest.approx([0.0, 1.150, 1.593], abs=1e-3)
