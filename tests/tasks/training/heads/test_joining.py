import numpy as np
import pytest

from tasks.targets.classes import is_right, losses
from tasks.targets.head import Factors
from tasks.targets.temperature import fit_temperature
from tasks.training.heads.joining import join


def problem(n, *, seed=0, vectors=1.0, words=1.0):
    """Labels, and logits of vectors and of words with so much evidence for them; the words are calibrated."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, n)
    right = np.eye(3)[labels]
    of_vectors, of_words = (quality * right + generator.normal(size=(n, 3)) for quality in (vectors, words))
    return 5 * of_vectors, of_words / fit_temperature(of_words, labels), labels


def test_words_that_know_as_much_count_half_and_both_are_better_than_either():
    vectors, words, labels = problem(2000)
    joined = join(vectors, words, labels)
    assert 1 - joined.factors.of_vector == pytest.approx(0.5, abs=0.1)
    loss = losses(joined.logits / joined.temperature, labels).mean()
    for alone in (vectors, words):
        assert loss < losses(alone / fit_temperature(alone, labels), labels).mean()
        assert is_right(joined.logits, labels).mean() > is_right(alone, labels).mean()


@pytest.mark.parametrize(("vectors", "words"), [(2.0, 0.0), (0.0, 2.0)])
def test_part_that_knows_nothing_changes_no_answer(vectors, words):
    of_vectors, of_words, labels = problem(2000, vectors=vectors, words=words)
    joined = join(of_vectors, of_words, labels)
    alone = of_vectors if vectors else of_words
    assert (joined.logits.argmax(axis=1) == alone.argmax(axis=1)).mean() > 0.98


def test_few_labels_give_the_words_little():
    shares = [1 - join(*problem(8, seed=seed)).factors.of_vector for seed in range(20)]
    assert np.mean(shares) < 0.25
    many = 1 - join(*problem(500)).factors.of_vector
    assert np.mean(shares) < many


def test_without_labels_words_do_not_count():
    vectors, words, labels = problem(0)
    joined = join(vectors, words, labels)
    assert joined.factors == Factors()
    assert joined.temperature == 1.0
