import numpy as np
import pytest

from tasks.gate.comparison import compare_slices, is_doubtful, with_pooled
from tasks.metrics.paired import Paired

LIMITS = {"significance": 0.05, "margin": 0.02, "slice_margin": 0.05, "level": 0.05}


def paired(*, negative, positive, num_samples=1000):
    losses = np.zeros(num_samples)
    losses[:negative] = 1
    losses[num_samples - positive :] = -1
    return Paired(losses=losses, groups=np.arange(num_samples), is_of_classes=True)


def first(num, of=1000):
    return np.arange(of) < num


def test_clear_loss_is_detected_on_the_whole_set():
    whole, _ = compare_slices(paired(negative=60, positive=20), {}, **LIMITS)
    assert whole.is_worse


def test_loss_on_a_single_slice_is_detected_there():
    slices = {"class cat": first(100), "class dog": ~first(100)}
    whole, parts = compare_slices(paired(negative=20, positive=20), slices, **LIMITS)
    assert not whole.is_worse
    assert {name: part.is_worse for name, part in parts.items()} == {"class cat": True, "class dog": False}


def test_loss_that_is_shown_to_be_below_the_margin_is_no_reason_to_reject():
    whole, _ = compare_slices(paired(negative=30, positive=0, num_samples=10_000), {}, **LIMITS)
    assert whole.p_value < 1e-6
    assert (whole.is_shown, whole.is_worse) == (True, False)


def test_more_slices_need_more_evidence():
    losses = np.where(np.arange(1000) % 2, 1.0, -1.0)
    losses[:9] = 1
    models = Paired(losses=losses, groups=np.arange(1000), is_of_classes=True)
    others = {f"a {number}": np.arange(1000) // 50 == number for number in range(1, 20)}
    few = compare_slices(models, {"a 0": first(10)}, **LIMITS)[1]["a 0"]
    many = compare_slices(models, {"a 0": first(10)} | others, **LIMITS)[1]["a 0"]
    assert few.p_value < many.p_value < 1


def test_small_slices_of_a_column_are_tested_together_too():
    slices = {
        ("class", "a"): first(20), ("class", "b"): first(40) & ~first(20), ("class", "c"): ~first(40),
        ("shot at", "night"): first(10), ("shot by", "eve"): first(10),
    }  # fmt: skip
    pooled = with_pooled(slices, groups=np.arange(1000), min_samples=30)
    assert set(pooled) - {" ".join(name) for name in slices} == {"class: the 2 small ones together"}
    assert pooled["class: the 2 small ones together"].sum() == 40


def test_rare_class_that_lost_much_is_in_doubt():
    """Seven of 29 lost, nothing gained: among other slices that is not enough to reject."""
    losses = np.zeros(1000)
    losses[:7] = 1
    losses[100:130], losses[130:160] = 1, -1
    models = Paired(losses=losses, groups=np.arange(1000), is_of_classes=True)
    slices = {"class rare": first(29), "class other": ~first(29)}
    rare = compare_slices(models, slices, **LIMITS)[1]["class rare"]
    assert not rare.is_worse
    assert is_doubtful(rare, significance=0.05)


def test_rise_of_the_errors_on_a_single_slice_is_detected_there():
    generator = np.random.default_rng(0)
    of_slice = np.arange(400) < 60
    losses = np.where(of_slice, 0.5 + generator.random(400), generator.normal(0, 1, 400))
    models = Paired(losses=losses, groups=np.arange(400), is_of_classes=False)
    slices = {"a steep": of_slice, "a flat": ~of_slice}
    whole, parts = compare_slices(models, slices, **LIMITS | {"margin": None, "slice_margin": None})
    assert {name: part.is_worse for name, part in parts.items()} == {"a steep": True, "a flat": False}
    assert parts["a steep"].smallest_detectable < parts["a flat"].smallest_detectable < 1.0
    assert whole.smallest_detectable == pytest.approx(0.13, abs=0.05)
