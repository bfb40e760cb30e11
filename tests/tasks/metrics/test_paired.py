from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, norm

from tasks.metrics.paired import Paired, joint_p_values, paired_classes, paired_errors, tango
from tasks.metrics.significance import mcnemar, sign_flips_of_counts


def of_classes(losses, groups=None):
    losses = np.asarray(losses, float)
    groups = np.arange(len(losses)) if groups is None else np.asarray(groups)
    return Paired(losses=losses, groups=groups, is_of_classes=True)


def flips(negative, positive, *, num_samples):
    return of_classes([1] * negative + [-1] * positive + [0] * (num_samples - negative - positive))


def test_groups_of_one_are_judged_by_the_exact_test_of_mcnemar():
    assert flips(9, 2, num_samples=100).p_value == mcnemar(9, 2)


def test_signs_of_whole_groups_are_flipped():
    sums = np.array([3.0, -1.0, 2.0, 2.0, 0.0, -1.0, 1.0])
    choices = [np.dot(signs, sums) for signs in product([-1, 1], repeat=7)]
    assert sign_flips_of_counts(sums) == pytest.approx(np.mean(np.array(choices) >= sums.sum()))


def test_group_that_flips_together_is_one_flip():
    assert of_classes([1] * 9 + [0] * 31, [0] * 9 + list(range(1, 32))).p_value == 0.5


@pytest.mark.parametrize("num_samples", [30, 200])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.1])
def test_model_that_lost_the_margin_is_rarely_shown_to_be_as_good(num_samples, share):
    """The exact size of the score test, over all numbers of flips; `share` of the samples are positive flips."""
    margin, size = 0.02, 0.0
    for num in range(num_samples + 1):
        negative = np.arange(num + 1)
        is_shown = tango(negative, num - negative, num_samples, margin) > norm.isf(0.05)
        of_num = binom.pmf(num, num_samples, 2 * share + margin)
        size += of_num * binom.pmf(negative, num, (share + margin) / (2 * share + margin))[is_shown].sum()
    assert size < 0.0515


def test_no_flip_at_all_among_few_samples_shows_no_margin_of_two_points():
    assert flips(0, 0, num_samples=100).p_value_of_margin(0.02) > 0.05
    assert flips(0, 0, num_samples=300).p_value_of_margin(0.02) < 0.05


def test_bound_is_the_smallest_margin_that_is_shown():
    models = flips(40, 40, num_samples=1000)
    bound = models.bound(level=0.05)
    assert models.p_value_of_margin(bound) == pytest.approx(0.05, abs=1e-6)
    assert bound == pytest.approx(1.645 * np.sqrt(80) / 1000, rel=0.05)


def test_groups_that_flip_together_show_less():
    groups = np.repeat(np.arange(200), 5)
    losses = np.repeat([1] * 8 + [-1] * 8 + [0] * 184, 5)
    assert of_classes(losses).p_value_of_margin(0.02) < 0.02
    assert of_classes(losses, groups).p_value_of_margin(0.02) > 0.1
    assert of_classes(losses, groups).design_effect(0.02) == pytest.approx(5, rel=0.1)


def test_model_that_lost_the_margin_on_uneven_groups_is_rarely_shown_to_be_as_good():
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(150), generator.geometric(0.25, 150))
    shown = []
    for _ in range(600):
        draw = generator.random(150)[groups]
        losses = np.where(draw < 0.07, 1, np.where(draw < 0.12, -1, 0))
        shown.append(of_classes(losses, groups).p_value_of_margin(0.02) < 0.05)
    assert np.mean(shown) < 0.07


def test_model_that_lost_the_margin_where_few_groups_are_large_is_rarely_shown_to_be_as_good():
    """Half of the samples are alone, and half in groups of ten that flip together; one counted as of the mean size."""
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(1375), [1] * 1250 + [10] * 125)
    shown = []
    for _ in range(1500):
        losses = (generator.random(1375) < 0.02)[groups]
        shown.append(of_classes(losses, groups).p_value_of_margin(0.02) < 0.035)
    assert np.mean(shown) < 0.06


def test_samples_that_would_show_the_margin_do_so_four_times_in_five():
    num = flips(60, 60, num_samples=1000).samples_that_show(0.02, level=0.05)
    generator = np.random.default_rng(0)
    counts = generator.multinomial(num, [0.06, 0.06, 0.88], 4000)
    is_shown = tango(counts[:, 0], counts[:, 1], num, 0.02) > norm.isf(0.05)
    assert is_shown.mean() == pytest.approx(0.8, abs=0.03)


def test_joint_test_of_one_slice_is_the_exact_test():
    models = flips(12, 4, num_samples=100)
    [p_value] = joint_p_values(models, [np.ones(100, bool)])
    assert p_value == pytest.approx(models.p_value, abs=0.006)


def test_joint_test_finds_the_slice_that_lost():
    models = flips(10, 10, num_samples=100)
    lost, others = joint_p_values(models, [np.arange(100) < 10, np.arange(100) >= 10])
    assert lost < 0.01
    assert others == pytest.approx(1.0)


def test_equal_models_are_worse_on_any_of_many_small_slices_as_rarely_as_allowed():
    generator = np.random.default_rng(0)
    members = [np.arange(200) % 25 == number for number in range(25)]
    is_worse = [
        joint_p_values(of_classes(generator.choice([-1, 0, 1], 200, p=[0.1, 0.8, 0.1])), members).min() < 0.1
        for _ in range(200)
    ]
    assert np.mean(is_worse) < 0.15


def test_slice_without_a_flip_is_not_worse():
    assert joint_p_values(flips(5, 5, num_samples=50), [np.arange(50) > 40])[0] == 1.0


def test_margin_of_errors_is_shown_by_a_t_test():
    errors = np.random.default_rng(0).exponential(1.0, 500)
    models = paired_errors(candidate=errors[::-1].copy(), other=errors, groups=np.arange(500))
    assert models.p_value_of_margin(0.2) < 0.01 < models.p_value_of_margin(0.01)
    assert models.p_value_of_margin(models.bound(level=0.05)) == pytest.approx(0.05)


def test_few_errors_that_differ_show_no_margin():
    few = np.zeros(100)
    few[:5] = -1.0
    models = paired_errors(candidate=few + 1, other=np.ones(100), groups=np.arange(100))
    assert (models.p_value_of_margin(5.0), models.bound(level=0.05)) == (1.0, None)


def test_interval_of_a_loss_of_accuracy_reaches_to_both_sides():
    right = np.ones(100, dtype=bool)
    low, high = paired_classes(candidate=right, other=right, groups=np.arange(100)).interval(confidence=0.95)
    assert high == pytest.approx(1.96**2 / (100 + 1.96**2), rel=1e-3)  # Tango's, of no flip
    assert low == pytest.approx(-high)
    worse = np.arange(100) >= 30
    low, high = paired_classes(candidate=worse, other=right, groups=np.arange(100)).interval(confidence=0.95)
    assert 0.2 < low < 0.3 < high < 0.42


def test_interval_of_a_rise_of_errors_is_by_groups():
    errors = np.random.default_rng(0).normal(1.0, 0.5, 200)
    alone = paired_errors(candidate=errors + 0.1 * errors, other=errors, groups=np.arange(200))
    low, high = alone.interval(confidence=0.95)
    assert low < alone.mean < high
    assert paired_errors(candidate=errors, other=errors, groups=np.arange(200)).interval(confidence=0.95) is None
