import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from tasks.training.loop.temperature import fit_temperature


@pytest.fixture
def calibrated():
    """Logits (n, 4), and labels drawn with just their probabilities."""
    generator = np.random.default_rng(0)
    logits = 2 * generator.normal(size=(20_000, 4))
    sums = softmax(logits, axis=1).cumsum(axis=1)
    return logits, (generator.random((20_000, 1)) > sums).sum(axis=1).clip(max=3)


def log_loss(logits, labels):
    return -log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean()


def test_calibrated_logits_stay_as_they_are(calibrated):
    assert fit_temperature(*calibrated) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("factor", [0.2, 5.0])
def test_wrong_confidence_is_set_right(calibrated, factor):
    logits, labels = calibrated
    temperature = fit_temperature(factor * logits, labels)
    assert temperature == pytest.approx(factor, rel=0.03)
    assert log_loss(factor * logits / temperature, labels) < log_loss(factor * logits, labels)


def test_logits_that_are_always_right_get_a_temperature_all_the_same():
    assert 0.009 < fit_temperature(np.eye(3) * 10, np.arange(3)) < 1.0


def test_without_labels_it_is_one():
    assert fit_temperature(np.empty((0, 3)), np.empty(0, dtype=np.int64)) == 1.0
