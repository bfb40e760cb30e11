import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tasks.training.logistic import fit_head


def problem(*, n, seed, num_classes=3, dim=5, noise=2.0):
    """Vectors around a centre a class, of unequal scale and off zero; labels."""
    centres = np.random.default_rng(1).normal(size=(num_classes, dim))
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, num_classes, n)
    vectors = centres[labels] + noise * generator.normal(size=(n, dim))
    return vectors * np.geomspace(0.1, 5, dim) + 7.0, labels


TRAIN, VAL = problem(n=60, seed=2), problem(n=400, seed=3)


def fit(train=TRAIN, val=VAL, *, l2_strengths=(0.01,), num_classes=3, max_iterations=2000):
    return fit_head(train, val, num_classes=num_classes, l2_strengths=l2_strengths, max_iterations=max_iterations)


def log_loss(log_probabilities, labels):
    return -log_probabilities[np.arange(len(labels)), labels].mean()


@pytest.mark.parametrize("l2", [0.001, 0.1, 10.0])
def test_head_agrees_with_scikit_learn_on_the_same_objective(l2):
    vectors, labels = TRAIN
    mean, scale = vectors.mean(axis=0), vectors.std(axis=0)
    reference = LogisticRegression(C=1 / (l2 * len(labels)), max_iter=10_000, tol=1e-8)
    reference.fit((vectors - mean) / scale, labels)
    expected = log_loss(reference.predict_log_proba((VAL[0] - mean) / scale), VAL[1])
    head = fit(l2_strengths=[l2])
    assert log_loss(head.log_probabilities(VAL[0]), VAL[1]) == pytest.approx(expected, abs=1e-3)
    assert head.val_log_loss == pytest.approx(expected, abs=1e-3)


def test_strength_that_is_best_on_val_is_chosen():
    strengths = [0.0001, 0.03, 10.0]
    alone = {l2: fit(l2_strengths=[l2]).val_log_loss for l2 in strengths}
    chosen = fit(l2_strengths=strengths)
    assert chosen.l2 == min(alone, key=alone.get) == 0.03
    assert chosen.val_log_loss == pytest.approx(alone[chosen.l2], abs=1e-3)


def test_order_of_the_strengths_does_not_matter():
    one, other = fit(l2_strengths=[0.1, 1.0, 0.01]), fit(l2_strengths=[0.01, 0.1, 1.0])
    assert np.array_equal(one.weight, other.weight)


def test_same_input_gives_the_same_bytes():
    one, other = fit(l2_strengths=[1.0, 0.01]), fit(l2_strengths=[1.0, 0.01])
    assert one.weight.tobytes() + one.bias.tobytes() == other.weight.tobytes() + other.bias.tobytes()


def test_strong_regularisation_leaves_the_frequencies_of_the_classes():
    vectors, labels = TRAIN
    head = fit(l2_strengths=[100.0])
    found = np.exp(head.log_probabilities(vectors)).mean(axis=0)
    assert found == pytest.approx(np.bincount(labels) / len(labels), abs=0.01)


def test_feature_that_never_changes_does_no_harm():
    def with_constant(vectors, labels):
        return np.hstack([vectors, np.full((len(vectors), 1), 3.3)]), labels

    plain = fit()
    head = fit(with_constant(*TRAIN), with_constant(*VAL))
    assert head.val_log_loss == pytest.approx(plain.val_log_loss, abs=1e-3)


def test_feature_that_hardly_varies_is_not_blown_up():
    """Such a feature is rounding, and would decide in a picture where it happens to be larger."""

    def with_tiny(vectors, labels, *, size, seed):
        tiny = size * np.random.default_rng(seed).normal(size=(len(vectors), 1))
        return np.hstack([vectors, tiny]), labels

    train = with_tiny(*TRAIN, size=1e-6, seed=0)
    val = with_tiny(*VAL, size=1e-3, seed=1)
    assert fit(train, val).val_log_loss == pytest.approx(fit().val_log_loss, abs=1e-2)


def test_class_without_training_samples_is_hardly_ever_said():
    head = fit(num_classes=4)
    assert head.weight.shape == (4, 5)
    assert np.exp(head.log_probabilities(VAL[0]))[:, 3].max() < 0.05


def test_probabilities_sum_to_one():
    assert np.exp(fit().log_probabilities(VAL[0])).sum(axis=1) == pytest.approx(np.ones(400))


def test_one_class_is_refused():
    vectors, labels = TRAIN
    with pytest.raises(ValueError, match="train has 1 class, expected at least 2: add samples of another class"):
        fit((vectors, np.zeros_like(labels)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("side", ["train", "val"])
def test_number_that_is_not_finite_is_refused(side, value):
    def spoil(vectors, labels):
        spoilt = vectors.copy()
        spoilt[3, 2] = value
        return spoilt, labels

    given = {"train": TRAIN, "val": VAL}
    given[side] = spoil(*given[side])
    with pytest.raises(ValueError, match="the embeddings have numbers that are not finite: run embed again"):
        fit(**given)
