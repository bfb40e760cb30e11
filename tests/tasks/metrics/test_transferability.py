"""The scores agree with their papers' formulas, written out in float64, and with refitting for every sample."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import Ridge

from tasks.metrics.transferability import RIDGES, folds, h_score, logme, one_hot, probed, transferability


@pytest.fixture
def drawn():
    """Draws vectors (n, dim) of three classes and their labels; `signal` is how far apart the classes are."""

    def draw(n=60, dim=12, signal=2.0, seed=0):
        generator = np.random.default_rng(seed)
        labels = np.arange(n) % 3
        return generator.normal(size=(n, dim)) + signal * np.eye(3, dim)[labels], labels

    return draw


def dense_evidence(vectors, output):
    """Return the log evidence a sample of equation 2 of You et al. 2021 at its maximum over both precisions."""
    n, dim = vectors.shape

    def negative(logs):
        alpha, beta = np.exp(logs)
        precision = alpha * np.eye(dim) + beta * vectors.T @ vectors
        mean = beta * np.linalg.solve(precision, vectors.T @ output)
        misfit = beta * ((vectors @ mean - output) ** 2).sum() + alpha * (mean**2).sum()
        volume = np.linalg.slogdet(precision)[1]
        return -(n * np.log(beta) + dim * np.log(alpha) - n * np.log(2 * np.pi) - misfit - volume) / 2

    starts = [(0.0, 0.0), (4.0, 2.0), (-3.0, 3.0)]
    return -min(minimize(negative, start, method="Nelder-Mead", tol=1e-10).fun for start in starts) / n


@pytest.mark.parametrize("shape", [(60, 12), (30, 50)])
def test_logme_is_the_maximum_of_the_evidence_in_its_paper(drawn, shape):
    vectors, labels = drawn(*shape)
    outputs = one_hot(labels)
    expected = np.mean([dense_evidence(vectors, output) for output in outputs.T])
    assert logme(vectors, outputs) == pytest.approx(expected, abs=1e-4)


def test_logme_of_the_authors_iteration_is_reached(drawn):
    vectors, labels = drawn()
    n, dim = vectors.shape
    expected = []
    for output in one_hot(labels).T:  # the fixed point of You et al. 2021, as their paper states it
        alpha, beta = 1.0, 1.0
        eigenvalues, directions = np.linalg.eigh(vectors.T @ vectors)
        for _ in range(200):
            gamma = (beta * eigenvalues / (alpha + beta * eigenvalues)).sum()
            mean = directions @ (beta / (alpha + beta * eigenvalues) * (directions.T @ vectors.T @ output))
            size, error = mean @ mean, ((vectors @ mean - output) ** 2).sum()
            alpha, beta = gamma / size, (n - gamma) / error
        evidence = dim * np.log(alpha) + n * np.log(beta) - np.log(alpha + beta * eigenvalues).sum()
        expected.append((evidence - beta * error - alpha * size - n * np.log(2 * np.pi)) / 2 / n)
    assert logme(vectors, one_hot(labels)) == pytest.approx(np.mean(expected), abs=1e-6)


@pytest.mark.parametrize("shape", [(60, 12), (30, 50)])
def test_h_score_is_that_of_a_shrunk_covariance(drawn, shape):
    vectors, labels = drawn(*shape)
    fitted = LedoitWolf().fit(vectors)
    means = np.stack([vectors[labels == number].mean(axis=0) for number in labels])
    between = np.cov(means, rowvar=False)
    expected = np.trace(np.linalg.pinv(fitted.covariance_) @ ((1 - fitted.shrinkage_) * between))
    assert h_score(vectors, labels) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("shape", [(40, 8), (20, 30)])
def test_probe_answers_as_regressions_of_the_other_folds(drawn, shape):
    vectors, labels = drawn(*shape)
    standard = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)
    outputs = one_hot(labels)

    def refitted(ridge):
        answers, numbers = np.empty_like(outputs), folds(outputs)
        for number in range(10):
            held = numbers == number
            answers[held] = Ridge(alpha=ridge).fit(standard[~held], outputs[~held]).predict(standard[held])
        return answers

    answers = [refitted(share * vectors.size) for share in RIDGES]
    best = min(answers, key=lambda answer: ((answer - outputs) ** 2).sum())
    assert probed(vectors, outputs) == pytest.approx(best, abs=1e-8)


def test_every_score_rises_with_what_the_vectors_say(drawn):
    near, far = (transferability(*drawn(120, signal=signal)) for signal in (0.3, 3.0))
    assert far.logme > near.logme
    assert far.h_score > near.h_score
    assert far.knn > near.knn
    assert far.probe > near.probe
    assert far.gains.mean() == far.probe


def test_vectors_without_any_signal_score_as_a_guess(drawn):
    scores = transferability(*drawn(300, 40, signal=0.0))
    assert scores.probe == pytest.approx(1 / 3, abs=0.12)
    assert scores.knn == pytest.approx(1 / 3, abs=0.12)


def test_number_is_scored_by_the_variance_that_is_explained_whatever_its_unit(drawn):
    vectors, _ = drawn(120)
    heights = vectors[:, 0] * 5 + 100
    scores = transferability(vectors, heights)
    assert scores.h_score is None
    assert scores.probe > 0.95
    assert transferability(vectors, heights / 1000).logme == pytest.approx(scores.logme)


@pytest.mark.parametrize("vectors", [np.zeros((30, 4)), np.full((30, 4), 7.0), np.eye(30, 400) * 6e4])
def test_vectors_that_say_nothing_or_are_extreme_give_finite_scores(vectors):
    scores = transferability(vectors.astype(np.float16), np.arange(30) % 3)
    assert np.isfinite([scores.logme, scores.h_score, scores.knn, scores.probe]).all()


def test_fewer_samples_than_classes_and_a_single_class_are_refused(drawn):
    with pytest.raises(ValueError, match="all 4 samples have the same label"):
        transferability(np.eye(4), np.zeros(4, np.int64))
    with pytest.raises(ValueError, match="3 samples have a label, fewer than the 4 classes"):
        transferability(np.eye(3), np.arange(3), num_classes=4)
