import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from tasks.targets.temperature import fit_temperature


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


@pytest.mark.parametrize("n", [3, 45, 3000])
def test_model_that_is_right_about_all_of_val_is_as_sure_as_so_many_samples_allow(n):
    labels = np.arange(n) % 3
    logits = np.eye(3)[labels] * 10
    confidence = softmax(logits / fit_temperature(logits, labels), axis=1).max(axis=1)
    doubt = 1 / (n + 2)  # of Platt's targets
    assert confidence == pytest.approx(np.full(n, 1 - doubt + doubt / 3), abs=1e-4)


def test_without_labels_it_is_one():
    assert fit_temperature(np.empty((0, 3)), np.empty(0, dtype=np.int64)) == 1.0
