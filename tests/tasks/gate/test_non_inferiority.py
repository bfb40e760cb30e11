import numpy as np
import pytest

from tasks.gate.non_inferiority import compare_slices
from tasks.metrics.significance import Flips, compare_errors, holm, mcnemar, smallest_detectable_loss


def flips(negative, positive, num_samples=1000):
    return Flips(negative=negative, positive=positive, num_samples=num_samples, p_value=mcnemar(negative, positive))


def test_holm_corrects_as_published():
    """Holm's example: the sorted p-values are multiplied by 4, 3, 2, 1 and never fall."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_corrected_p_value_is_at_most_1():
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_clear_loss_is_detected_on_the_whole_set():
    whole, _ = compare_slices(flips(60, 20), {}, significance=0.05, min_samples=30)
    assert whole.is_worse


def test_loss_on_a_single_slice_is_detected_there():
    whole, slices = compare_slices(
        flips(30, 25),
        {"class cat": flips(20, 0, 100), "class dog": flips(10, 25, 900)},
        significance=0.05,
        min_samples=30,
    )
    assert not whole.is_worse
    assert {name: comparison.is_worse for name, comparison in slices.items()} == {"class cat": True, "class dog": False}


def test_small_slice_is_not_tested():
    _, slices = compare_slices(flips(10, 10), {"tiny": flips(9, 0, 29)}, significance=0.05, min_samples=30)
    assert slices == {}


def test_more_slices_need_more_evidence():
    few = compare_slices(flips(5, 5), {"a": flips(9, 1, 50)}, significance=0.05, min_samples=30)[1]
    many = compare_slices(
        flips(5, 5), {name: flips(9, 1, 50) if name == "a" else flips(1, 1, 50) for name in "abcdefgh"},
        significance=0.05, min_samples=30,
    )[1]  # fmt: skip
    assert many["a"].p_value == pytest.approx(8 * few["a"].p_value)


def test_smallest_detectable_loss_is_detected_four_times_in_five():
    """Draw models at random that lost this much, with the same number of flips."""
    loss = smallest_detectable_loss(flips(30, 30), significance=0.05)
    generator = np.random.default_rng(0)
    negative = generator.binomial(60, 0.5 + loss * 1000 / 60 / 2, 2000)
    share_detected = np.mean([mcnemar(int(count), 60 - int(count)) < 0.05 for count in negative])
    assert share_detected == pytest.approx(0.8, abs=0.03)


def test_without_flips_the_smallest_detectable_loss_is_five_flips():
    """0.5^5 is the first power below 5 %."""
    assert smallest_detectable_loss(flips(0, 0), significance=0.05) == pytest.approx(5 / 1000, rel=0.1)


def test_too_few_samples_show_no_loss():
    assert smallest_detectable_loss(flips(0, 0, num_samples=4), significance=0.05) == 1.0


def test_rise_of_the_errors_on_a_single_slice_is_detected_there():
    generator = np.random.default_rng(0)
    errors, of_slice = generator.exponential(1.0, 400), np.arange(400) < 60
    worse = np.where(of_slice, errors + 0.5 + generator.random(400), generator.permutation(errors))
    whole, slices = compare_slices(
        compare_errors(candidate=worse, baseline=errors),
        {
            name: compare_errors(candidate=worse[of], baseline=errors[of])
            for name, of in {"steep": of_slice, "flat": ~of_slice}.items()
        },
        significance=0.05,
        min_samples=30,
    )
    assert {name: comparison.is_worse for name, comparison in slices.items()} == {"steep": True, "flat": False}
    assert slices["steep"].smallest_detectable < slices["flat"].smallest_detectable < 1.0
    assert whole.smallest_detectable > 0
