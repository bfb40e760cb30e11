"""How a person reads an answer."""

import numpy as np
import pytest

from tasks.targets.number import Number
from tasks.targets.several import Several


@pytest.mark.parametrize(
    ("interval", "measure", "value", "text"),
    [
        ((-4.2, 4.1), "degrees", 12.345, "12.3 degrees (8.1 to 16.4)"),
        ((-0.02, 0.01), "", -0.001, "-0.001 (-0.021 to 0.009)"),
        ((-400.0, 300.0), "USD", 12_345.6, "12346 USD (11946 to 12646)"),
        ((-0.5, 0.5), "m", -0.04, "0.0 m (-0.5 to 0.5)"),
        ((0.0, 0.0), "m", 7.25, "7.2 m (7.2 to 7.2)"),
        (None, "m", 7.25, "7.2 m"),
        (None, "", 3e20, "3e+20"),
    ],
)
def test_number_has_the_digits_that_its_interval_makes_sense_of(interval, measure, value, text):
    target = Number(measure=measure, interval=interval, scale=2.0)
    low, high = interval or (0.0, 0.0)
    assert target.in_words(np.array([[value, value + low, value + high]])) == [text]


def test_labels_are_listed_and_none_of_them_is_said():
    target = Several(("loop", "even"), thresholds=(0.3, 0.8))
    assert target.in_words(np.array([[0.4, 0.9], [0.4, 0.7], [0.1, 0.7]])) == ["even, loop", "loop", "(none)"]
