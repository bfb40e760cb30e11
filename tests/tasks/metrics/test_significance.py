from itertools import product

import numpy as np
import pytest
from scipy.stats import binom

from tasks.metrics.significance import (
    POWER,
    compare,
    compare_errors,
    paired_t_test,
    paired_test,
    sign_flip_test,
    smallest_detectable_excess,
    smallest_detectable_shortfall,
)


def flips(*, negative, positive, both_right=5, both_wrong=3):
    counts = [negative, positive, both_right, both_wrong]
    return compare(
        candidate=np.repeat([False, True, True, False], counts), baseline=np.repeat([True, False, True, False], counts)
    )


def test_flips_are_counted_by_direction():
    counted = flips(negative=4, positive=1)
    assert (counted.negative, counted.positive) == (4, 1)


def test_p_value_of_a_case_computed_by_hand():
    """At least 4 heads in 5 throws: (5 + 1) / 32."""
    assert flips(negative=4, positive=1).p_value == pytest.approx(6 / 32)


def test_improvement_is_no_evidence_against_the_candidate():
    assert flips(negative=0, positive=10).p_value == 1.0


def test_ten_losses_without_a_gain_are_evidence():
    assert flips(negative=10, positive=0).p_value == pytest.approx(1 / 1024)


def test_models_that_agree_do_not_differ_significantly():
    assert flips(negative=0, positive=0).p_value == 1.0


def test_samples_on_which_both_agree_do_not_matter():
    assert flips(negative=3, positive=1, both_right=1000).p_value == flips(negative=3, positive=1).p_value


def test_mean_far_above_zero_is_more_than_chance():
    assert paired_t_test(np.array([1.0, 1.2, 0.9, 1.1, 1.0, 0.8])) < 0.001


def test_mean_below_zero_is_no_evidence_of_a_mean_above_zero():
    assert paired_t_test(np.array([-1.0, -1.2, -0.9, -1.1])) > 0.99


def test_t_test_of_a_case_computed_by_hand():
    """Two numbers with mean 1 and standard error 1: t = 1 with one degree of freedom, which a quarter exceeds."""
    assert paired_t_test(np.array([0.0, 2.0])) == pytest.approx(0.25)


@pytest.mark.parametrize("differences", [[], [3.0], [0.0, 0.0, 0.0]])
def test_too_few_differences_and_equal_models_show_nothing(differences):
    assert paired_t_test(np.array(differences)) == 1.0


def test_equal_losses_are_evidence_as_strong_as_their_number():
    assert paired_t_test(np.full(10, 0.3)) == pytest.approx(1 / 1024)
    assert paired_t_test(np.full(10, -0.3)) == 1.0


def test_sign_flip_test_counts_every_choice_of_signs():
    differences = np.array([3.0, -1.0, 2.0, 0.5, 2.0, 0.0, -0.5])
    sums = [np.dot(signs, differences) for signs in product([-1, 1], repeat=7)]
    expected = np.mean(np.array(sums) >= differences.sum() - 1e-9)
    assert sign_flip_test(differences) == pytest.approx(expected)


def test_samples_on_which_both_are_equally_far_off_do_not_matter_to_the_sign_flip_test():
    few = np.array([3.0, 1.0, 2.0, 0.5])
    assert sign_flip_test(np.append(few, np.zeros(1000))) == sign_flip_test(few) == 1 / 16


@pytest.mark.parametrize("differences", [[], [0.0], [0.0, 0.0]])
def test_models_with_equal_errors_do_not_differ(differences):
    assert paired_test(np.array(differences)) == 1.0


def test_five_worse_answers_among_a_thousand_are_judged_by_their_signs():
    """The t-test would say 0.013."""
    worse = np.zeros(1000)
    worse[:5] = 1.0
    assert paired_test(worse) == 1 / 32


def test_rise_of_the_errors_is_detected_with_the_promised_power():
    """Draw pairs of models whose errors differ by the smallest detectable rise in the mean."""
    generator = np.random.default_rng(0)
    spread = generator.exponential(1.0, 200) * generator.choice([-1.0, 1.0], 200)
    rise = compare_errors(candidate=spread, baseline=np.zeros(200)).smallest_detectable(significance=0.05)
    deviation = spread.std(ddof=1) / np.sqrt(2)  # that of the Laplace distribution is sqrt(2)
    found = [paired_test(generator.laplace(rise, deviation, 200)) < 0.05 for _ in range(2000)]
    assert np.mean(found) == pytest.approx(POWER, abs=0.03)


def test_errors_that_differ_in_their_last_bits_are_equal():
    errors = np.random.default_rng(0).exponential(3.0, 100)
    found = compare_errors(candidate=errors * (1 + 1e-6), baseline=errors)
    assert (found.num_different, found.p_value) == (0, 1.0)


def test_equal_differences_have_no_deviation_of_their_last_bits():
    change = compare_errors(candidate=np.full(63, 1 / 3), baseline=np.zeros(63))
    assert change.deviation == 0
    assert change.smallest_detectable(significance=0.05) is None


def test_few_answers_that_differ_cannot_show_a_small_rise():
    """Five differences are needed at 5 %, each as large as the one that there is."""
    one = np.zeros(100)
    one[0] = 2.0
    found = compare_errors(candidate=one, baseline=np.zeros(100))
    assert found.smallest_detectable(significance=0.05) == pytest.approx(5 * 2.0 / 100, rel=0.02)


@pytest.mark.parametrize("differences", [[], [3.0], [0.0] * 50, [1.0, 2.0, 3.0, 4.0]])
def test_effect_that_cannot_be_known_is_none(differences):
    found = compare_errors(candidate=np.array(differences), baseline=np.zeros(len(differences)))
    assert found.smallest_detectable(significance=0.05) is None


def test_shortfall_is_detected_with_the_promised_power():
    """At least 180 of 200 samples must be right."""
    true_share = 0.9 - smallest_detectable_shortfall(0.9, num_samples=200)
    assert binom.cdf(179, 200, true_share) == pytest.approx(POWER)


def test_excess_is_detected_with_the_promised_power():
    """At most 6 of 200 samples may be wrong."""
    true_share = 0.03 + smallest_detectable_excess(0.03, num_samples=200)
    assert binom.sf(6, 200, true_share) == pytest.approx(POWER)


def test_margin_makes_a_floor_more_sensitive():
    assert smallest_detectable_shortfall(0.9, num_samples=200, margin=0.02) < smallest_detectable_shortfall(
        0.9, num_samples=200
    )


def test_floor_that_no_share_can_reach_detects_any_shortfall():
    assert smallest_detectable_shortfall(0.99, num_samples=10, margin=0.05) == 0.0


def test_floor_and_ceiling_that_nothing_can_break_detect_nothing():
    assert smallest_detectable_shortfall(0.0, num_samples=10) == 0.0
    assert smallest_detectable_excess(1.0, num_samples=10) == 0.0
