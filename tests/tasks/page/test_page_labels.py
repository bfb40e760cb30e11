import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from tasks.page.labels import SIDE, curve


def test_curve_is_that_of_scikit_learn_with_equal_probabilities_said_together():
    is_true = np.array([1, 0, 1, 1, 0, 0, 1], bool)
    probabilities = np.array([0.9, 0.8, 0.8, 0.4, 0.4, 0.3, 0.1])
    precision, recall, _ = precision_recall_curve(is_true, probabilities, drop_intermediate=False)
    drawn = curve(is_true, probabilities, threshold=0.5)
    points = [tuple(map(float, point.split(","))) for point in drawn["points"].split()]
    expected = list(zip(SIDE * recall[::-1][1:], SIDE - SIDE * precision[::-1][1:], strict=True))
    assert points[1:] == [pytest.approx(point, abs=0.06) for point in expected]
    assert drawn["chosen"] == {"x": SIDE * 2 / 4, "y": pytest.approx(SIDE - SIDE * 2 / 3)}
    assert drawn["base"] == pytest.approx(SIDE - SIDE * 4 / 7)


def test_label_that_is_never_said_has_no_dot():
    assert curve(np.array([True, False]), np.array([0.4, 0.1]), threshold=2.0)["chosen"] is None
