import pytest

from tasks.gate.wear import Wear


def test_first_decision_has_no_margin():
    assert Wear(num_decisions=1, confidence=0.95).margin(0.9, 1000) == 0.0


def test_margin_is_the_widening_of_the_interval():
    """z is 1.96 for 95 %, and 2.807 if ten decisions share the 5 %."""
    error = (0.9 * 0.1 / 1000) ** 0.5
    margin = Wear(num_decisions=10, confidence=0.95).margin(0.9, 1000)
    assert margin == pytest.approx((2.8070 - 1.9600) * error, rel=1e-3)


def test_margin_with_more_samples_is_smaller():
    wear = Wear(num_decisions=10, confidence=0.95)
    assert wear.margin(0.9, 4000) == pytest.approx(wear.margin(0.9, 1000) / 2)


def test_margin_of_a_mean_is_that_of_a_share_with_its_standard_error():
    wear = Wear(num_decisions=10, confidence=0.95)
    assert wear.margin_of_mean((0.9 * 0.1 / 1000) ** 0.5) == pytest.approx(wear.margin(0.9, 1000))
