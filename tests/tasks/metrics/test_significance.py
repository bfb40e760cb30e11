import numpy as np
import pytest

from tasks.metrics.significance import compare


def flips(*, negative, positive, both_right=5, both_wrong=3):
    counts = [negative, positive, both_right, both_wrong]
    return compare(
        candidate=np.repeat([False, True, True, False], counts), baseline=np.repeat([True, False, True, False], counts)
    )


def test_flips_are_counted_by_direction():
    found = flips(negative=4, positive=1)
    assert (found.negative, found.positive) == (4, 1)


def test_p_value_of_a_case_computed_by_hand():
    """At least 4 heads in 5 throws: (5 + 1) / 32."""
    assert flips(negative=4, positive=1).p_value == pytest.approx(6 / 32)


def test_improvement_is_no_evidence_against_the_candidate():
    assert flips(negative=0, positive=10).p_value == 1.0


def test_ten_losses_without_a_gain_are_evidence():
    assert flips(negative=10, positive=0).p_value == pytest.approx(1 / 1024)


def test_models_that_agree_are_not_told_apart():
    assert flips(negative=0, positive=0).p_value == 1.0


def test_samples_on_which_both_agree_do_not_matter():
    assert flips(negative=3, positive=1, both_right=1000).p_value == flips(negative=3, positive=1).p_value
