import numpy as np

from tasks.training.discriminant import Discriminant
from tasks.training.heads.rows import StandardRows

NUM = 600


def made(*, noise=0.0):
    generator = np.random.default_rng(0)
    truths = generator.integers(0, 3, NUM)
    vectors = (generator.normal(size=(NUM, 8)) + 3 * np.eye(8)[truths]).astype(np.float32)
    labels = np.where(generator.random(NUM) < noise, (truths + 1) % 3, truths)
    return StandardRows(vectors), truths, labels, np.arange(NUM) % 5


def test_answers_are_right_and_calibrated():
    rows, truths, labels, folds = made()
    said = Discriminant(rows, labels, folds, num_classes=3).judged()
    np.testing.assert_allclose(np.exp(said).sum(axis=1), 1)
    is_right = said.argmax(axis=1) == truths
    assert is_right.mean() > 0.9
    assert abs(np.exp(said.max(axis=1)).mean() - is_right.mean()) < 0.03


def test_no_sample_learns_from_its_own_label():
    rows, _, labels, folds = made()
    before = Discriminant(rows, labels, folds, num_classes=3).judged()
    changed = labels.copy()
    changed[folds == 2] = (changed[folds == 2] + 1) % 3
    after = Discriminant(rows, changed, folds, num_classes=3).judged()
    assert (before[folds == 2].argmax(axis=1) == after[folds == 2].argmax(axis=1)).all()


def test_wrong_labels_move_the_answers_little():
    rows, truths, labels, folds = made(noise=0.2)
    assert (Discriminant(rows, labels, folds, num_classes=3).judged().argmax(axis=1) == truths).mean() > 0.88


def test_sample_that_is_only_judged_teaches_nothing():
    rows, _, labels, folds = made()
    learns = np.arange(NUM) % 7 > 0
    before = Discriminant(rows, labels, folds, num_classes=3).judged(learns)
    unknown = np.where(learns, labels, -1)
    assert (before == Discriminant(rows, unknown, folds, num_classes=3).judged()).all()


def test_class_that_a_fold_lacks_and_more_dimensions_than_samples_are_no_error():
    rows, _, labels, folds = made()
    labels = np.where(labels == 2, np.where(folds == 0, 2, 1), labels)
    assert np.isfinite(Discriminant(rows, labels, folds, num_classes=3).judged()).all()
    wide = StandardRows(np.random.default_rng(0).normal(size=(30, 200)).astype(np.float32))
    assert np.isfinite(Discriminant(wide, np.arange(30) % 2, np.arange(30) % 5, num_classes=2).judged()).all()


def test_samples_that_are_left_out_later_teach_nothing_then():
    rows, _, labels, folds = made(noise=0.1)
    discriminant = Discriminant(rows, labels, folds, num_classes=3)
    discriminant.judged(np.arange(NUM) % 11 > 0)
    learns = np.arange(NUM) % 7 > 0
    alone = Discriminant(rows, labels, folds, num_classes=3).judged(learns)
    np.testing.assert_allclose(discriminant.judged(learns), alone, atol=1e-5)
