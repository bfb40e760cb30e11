import numpy as np
import pytest

from tasks.gate.non_inferiority import compare_slices
from tasks.metrics.significance import Flips, holm, mcnemar, smallest_detectable_loss


def flips(negative, positive, num_samples=1000):
    return Flips(negative=negative, positive=positive, num_samples=num_samples, p_value=mcnemar(negative, positive))


def test_holm_corrects_as_published():
    """The example of Holm's step-down: times 4, 3, 2, 1, and never falling."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_corrected_p_value_is_at_most_1():
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_clear_loss_is_found_on_the_whole():
    whole, _ = compare_slices(flips(60, 20), {}, significance=0.05, min_samples=30)
    assert whole.is_worse


def test_loss_that_is_confined_to_a_slice_is_found_there():
    whole, slices = compare_slices(
        flips(30, 25),
        {"class cat": flips(20, 0, 100), "class dog": flips(10, 25, 900)},
        significance=0.05,
        min_samples=30,
    )
    assert not whole.is_worse
    assert {name: found.is_worse for name, found in slices.items()} == {"class cat": True, "class dog": False}


def test_small_slice_is_not_tested():
    _, slices = compare_slices(flips(10, 10), {"tiny": flips(9, 0, 29)}, significance=0.05, min_samples=30)
    assert slices == {}


def test_more_slices_ask_for_more_evidence():
    few = compare_slices(flips(5, 5), {"a": flips(9, 1, 50)}, significance=0.05, min_samples=30)[1]
    many = compare_slices(
        flips(5, 5), {name: flips(9, 1, 50) if name == "a" else flips(1, 1, 50) for name in "abcdefgh"},
        significance=0.05, min_samples=30,
    )[1]  # fmt: skip
    assert many["a"].p_value == pytest.approx(8 * few["a"].p_value)


def test_smallest_detectable_loss_is_found_four_times_in_five():
    """Drawn at random: of models that lost that much among as many flips."""
    seen = flips(30, 30)
    loss = smallest_detectable_loss(seen, significance=0.05)
    generator = np.random.default_rng(0)
    negative = generator.binomial(60, 0.5 + loss * 1000 / 60 / 2, 2000)
    found = np.mean([mcnemar(int(each), 60 - int(each)) < 0.05 for each in negative])
    assert found == pytest.approx(0.8, abs=0.03)


def test_without_a_flip_the_detectable_loss_is_what_five_flips_would_be():
    """0.5^5 is the first power below 5 %."""
    assert smallest_detectable_loss(flips(0, 0), significance=0.05) == pytest.approx(5 / 1000, rel=0.1)


def test_too_few_samples_show_no_loss():
    assert smallest_detectable_loss(flips(0, 0, num_samples=4), significance=0.05) == 1.0
