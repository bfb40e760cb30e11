"""Draws of samples with replacement, as the bootstrap makes them."""

from typing import Any

import numpy as np
import pytest

from tasks.metrics.bootstrap import measure_once

NUM_DRAWS = 5


def check_draws(measures: Any, answered: Any, truths: Any) -> None:
    """Assert that a sample of weight k counts like k samples, in each of several draws at once."""
    n = len(truths)
    weights = np.random.default_rng(1).poisson(1.0, (NUM_DRAWS, n)).astype(float)
    found = measures(answered, truths, num_bins=15)(weights)
    for number, drawn in enumerate(weights):
        rows = np.repeat(np.arange(n), drawn.astype(int))
        again = measure_once(measures(answered.of(rows), truths[rows], num_bins=15), n=len(rows))
        assert {name: values[number] for name, values in found.items()} == pytest.approx(again)
