import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tasks.targets.classes import log_probabilities, losses
from tasks.text.words import fit_vocabulary, terms_of
from tasks.training.heads.options import HeadOptions
from tasks.training.heads.words import fit_words, logits_of, solve, sparse_rows

NAMES = ["news", "sport", "trade"]


def texts(n, *, seed):
    """Texts of common words and, seven times in ten, a word of their class."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, n)
    common = [" ".join(f"w{number}" for number in generator.integers(0, 40, 8)) for _ in range(n)]
    own = generator.random(n) < 0.7
    return [
        f"{text} {NAMES[label] if has else ''}" for text, label, has in zip(common, labels, own, strict=True)
    ], labels


TRAIN, VAL = texts(120, seed=0), texts(400, seed=1)
VOCABULARY = fit_vocabulary([terms_of(text) for text in TRAIN[0]])
SETS = [
    (sparse_rows([VOCABULARY.row(text) for text in found], num_terms=len(VOCABULARY)), labels)
    for found, labels in (TRAIN, VAL)
]


def fit(train=SETS[0], val=SETS[1], **changes):
    settings = {"class_weights": "none", "max_iterations": 500} | changes
    options = HeadOptions(
        head="logistic", hidden_features=1, l2_strengths=[1.0], words="auto", sharing="auto", **settings
    )
    return fit_words(train, val, options, classes=NAMES)


def test_head_agrees_with_scikit_learn_on_the_same_objective():
    rows, labels = SETS[0]
    found = solve(rows, labels, np.ones(len(labels)), 0.1 / len(labels), start=np.zeros((3, rows.shape[1] + 1)),
                  max_iterations=1000)  # fmt: skip
    expected = LogisticRegression(C=10, max_iter=10_000, tol=1e-10).fit(rows, labels)
    np.testing.assert_allclose(found[:, :-1], expected.coef_, atol=2e-3)


def test_balanced_classes_weigh_the_same_in_all():
    rows, labels = SETS[0]
    some = np.flatnonzero((labels != 2) | (np.arange(len(labels)) % 6 == 0))
    few = rows[some], labels[some]
    none = SETS[1][0][:0], SETS[1][1][:0]  # without val the strength is the middle one
    for ours, theirs in (("none", None), ("balanced", "balanced")):
        expected = LogisticRegression(C=10, class_weight=theirs, max_iter=10_000, tol=1e-10).fit(*few)
        np.testing.assert_allclose(fit(few, none, class_weights=ours).weight, expected.coef_, atol=5e-3)


def test_words_tell_the_classes_apart_and_are_calibrated():
    head = fit()
    logits = logits_of(head, SETS[1][0])
    assert (logits.argmax(axis=1) == SETS[1][1]).mean() > 0.65
    here = losses(logits, SETS[1][1]).mean()
    assert here == pytest.approx(head.val_log_loss)
    assert all(losses(factor * logits, SETS[1][1]).mean() > here for factor in (0.8, 1.25))


def test_strength_has_the_lowest_log_loss_on_val_and_without_val_the_middle_one_is_taken():
    _, labels = SETS[0]
    none = SETS[1][0][:0], SETS[1][1][:0]
    assert fit(val=none).l2 == pytest.approx(0.1 / len(labels))
    assert fit(val=none).val_log_loss is None
    assert fit().val_log_loss < losses(log_probabilities(logits_of(fit(val=none), SETS[1][0])), SETS[1][1]).mean()


def test_same_texts_give_the_same_bits():
    one, other = fit(), fit()
    np.testing.assert_array_equal(one.weight, other.weight)
    np.testing.assert_array_equal(one.bias, other.bias)


def test_class_without_a_sample_is_named():
    rows, labels = SETS[0]
    with pytest.raises(ValueError, match="train has no sample of class trade: add some"):
        fit((rows[labels != 2], labels[labels != 2]))
