import math

import numpy as np
import pytest

from tasks.metrics.accuracy import design_effect, measure_accuracy, wilson

# Six samples of three classes. Predicted: 0 0 1 1 1 2; samples 0, 1, 3 and 5 are right.
LABELS = np.array([0, 0, 0, 1, 2, 2])
PROBABILITIES = np.array(
    [[0.8, 0.1, 0.1], [0.5, 0.3, 0.2], [0.2, 0.7, 0.1], [0.1, 0.6, 0.3], [0.2, 0.4, 0.4], [0.1, 0.1, 0.8]]
)


def measure(labels=LABELS, probabilities=PROBABILITIES):
    return measure_accuracy(labels=labels, probabilities=probabilities)


def test_accuracy_is_the_share_of_right_answers():
    assert measure().accuracy == pytest.approx(4 / 6)


def test_recall_is_the_share_of_right_answers_in_each_class():
    assert measure().recall == pytest.approx([2 / 3, 1.0, 1 / 2])


def test_macro_f1_is_the_mean_over_classes():
    """Precision 1, 1/3, 1; recall 2/3, 1, 1/2."""
    assert measure().macro_f1 == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)


def test_log_loss_is_the_mean_surprise_in_nats():
    assert measure().log_loss == pytest.approx(-sum(map(math.log, (0.8, 0.5, 0.2, 0.6, 0.4, 0.8))) / 6)


def test_class_without_samples_has_no_recall_and_does_not_lower_f1():
    measured = measure(np.array([0, 0]), np.array([[0.9, 0.1, 0.0], [0.8, 0.1, 0.1]]))
    assert measured.recall[0] == 1.0
    assert np.isnan(measured.recall[1:]).all()
    assert measured.macro_f1 == 1.0


def test_log_loss_of_a_class_that_a_model_does_not_know_is_finite():
    assert measure(np.array([0]), np.array([[0.0, 1.0]])).log_loss == pytest.approx(-math.log(1e-15))


def test_interval_is_that_of_wilson():
    """Newcombe (1998), table I: 81 of 263 at 95 %, 0.2553 to 0.3662."""
    assert wilson(81, 263, confidence=0.95) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_interval_of_a_flawless_model_reaches_below_1():
    """If all n are right, the interval is n / (n + z^2) to 1, with z = 1.96."""
    assert wilson(20, 20, confidence=0.95) == pytest.approx((20 / (20 + 1.959964**2), 1.0), abs=1e-6)


def test_more_confidence_is_a_wider_interval():
    (low, high), (lower, higher) = wilson(4, 6, confidence=0.8), wilson(4, 6, confidence=0.99)
    assert lower < low < high < higher


def test_no_samples_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"there are no held-out samples: add data, or raise validate\.heldout_fr"):
        measure(LABELS[:0], PROBABILITIES[:0])


def test_groups_that_are_right_or_wrong_as_a_whole_count_once():
    hits = np.repeat([True, True, True, False] * 25, 5)
    assert design_effect(hits, np.repeat(np.arange(100), 5)) == pytest.approx(5, rel=0.05)
    assert design_effect(hits, np.arange(500)) == 1.0
    wide, narrow = (wilson(375, 500, confidence=0.95, design_effect=effect) for effect in (5.0, 1.0))
    assert wide == wilson(75, 100, confidence=0.95)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_few_groups_count_as_right_or_wrong_as_a_whole():
    """Two groups of four and one sample alone, of which each has the same share: chance, not a sign of independence."""
    hits = np.array([1, 1, 0, 0, 1, 1, 0, 0, 1], bool)
    assert design_effect(hits, np.repeat([0, 1, 2], [4, 4, 1])) == pytest.approx(129 / 33)
