import numpy as np
import pytest

from tasks.metrics.calibration import reliability


def measure(confidences, is_right, *, num_bins):
    """Measure a classifier of two classes that always predicts the first, with these confidences."""
    confidence = np.array(confidences)
    labels = np.where(is_right, 0, 1)
    return reliability(labels=labels, probabilities=np.stack([confidence, 1 - confidence], axis=1), num_bins=num_bins)


def test_error_of_a_case_computed_by_hand():
    """Two of five bins hold samples: 0.6 to 0.8 (confidence 0.65, accuracy 1/2) and 0.8 to 1 (0.9, 2/3)."""
    table, error = measure([0.62, 0.68, 0.85, 0.9, 0.95], [True, False, True, True, False], num_bins=5)
    assert error == pytest.approx(2 / 5 * 0.15 + 3 / 5 * (0.9 - 2 / 3))
    assert table["confidence"].tolist() == pytest.approx([0.65, 0.9])
    assert table["accuracy"].tolist() == pytest.approx([1 / 2, 2 / 3])
    assert table["count"].tolist() == [2, 3]


def test_model_that_is_right_as_often_as_its_confidence_promises_has_no_error():
    _, error = measure([0.75] * 4, [True, True, True, False], num_bins=15)
    assert error == pytest.approx(0.0)


def test_model_that_is_wrong_with_full_confidence_has_an_error_of_1():
    table, error = measure([1.0, 1.0], [False, False], num_bins=10)
    assert error == 1.0
    assert table["count"].tolist() == [2]


def test_errors_of_opposite_sign_do_not_cancel_between_bins():
    _, error = measure([0.6, 0.9], [True, False], num_bins=5)
    assert error == pytest.approx((0.4 + 0.9) / 2)
