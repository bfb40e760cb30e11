import numpy as np
import pytest

from tasks.training.heads.partial_labels import PartialCrossEntropy, classes_inside, path_with_candidates
from tasks.training.heads.rows import StandardRows

NESTED = np.array([[True, True, False, False], [False, False, True, True]])


def inside(own, coarse, *, num_own=3, num_coarse=2):
    return classes_inside(np.array(own), np.array(coarse), num_own=num_own, num_coarse=num_coarse)


def test_classes_that_each_occur_with_one_coarser_class_lie_in_it():
    assert inside([0, 0, 1, 2], [0, 0, 0, 1]).tolist() == [[True, True, False], [False, False, True]]


def test_class_that_is_seen_with_no_coarser_one_may_lie_in_each():
    assert inside([0, 0, 1, 1], [0, 0, 1, 1]).tolist() == [[True, False, True], [False, True, True]]


def test_few_wrong_labels_hide_no_nesting_and_many_do():
    own, coarse = [0] * 50 + [1] * 50, [0] * 50 + [1] * 50
    assert inside([*own, 0], [*coarse, 1], num_own=2).tolist() == [[True, False], [False, True]]
    assert inside(own + [0] * 10, coarse + [1] * 10, num_own=2) is None


def test_one_coarser_class_alone_and_no_common_rows_say_nothing():
    assert inside([0, 1, 2], [0, 0, 0]) is None
    assert inside(np.empty(0, int), np.empty(0, int)) is None


def problem(seed=0, num_own=40, n=1500, dim=12):
    """Return vectors, the labels of four classes in two groups, and which rows have a label of the class."""
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(n, dim)).astype(np.float32)
    scores = 2 * vectors @ generator.normal(size=(dim, 4)) + generator.gumbel(size=(n, 4))
    return vectors, scores.argmax(axis=1), np.arange(n) < num_own


def test_gradient_is_the_slope_of_the_loss():
    vectors, labels, is_own = problem(n=60, num_own=20, dim=3)
    rows = StandardRows(vectors)
    rows.labels = np.where(is_own, labels, 4 + labels // 2)
    loss = PartialCrossEntropy(rows, np.concatenate([np.eye(4, dtype=bool), NESTED]), np.array([3, 1, 2, 1, 0.5, 1.5]))
    point = np.random.default_rng(1).normal(size=(4, 4))
    step = 1e-2
    for place in np.ndindex(point.shape):
        ahead, behind = point.copy(), point.copy()
        ahead[place] += step
        behind[place] -= step
        slope = (loss.at(ahead).loss - loss.at(behind).loss) / (2 * step)
        assert loss.at(point).gradient[place] == pytest.approx(slope, abs=2e-3)


def accuracy_of(candidates, is_own, vectors, labels):
    rows = np.flatnonzero(candidates.any(axis=1))
    *_, (_, (weight, bias)) = path_with_candidates(
        StandardRows(vectors[rows]), candidates[rows], is_own[rows], "none", [0.1, 0.03], max_iterations=300
    )
    return (((vectors @ weight.T + bias).argmax(axis=1) == labels)[1000:]).mean()


def test_groups_of_more_rows_improve_the_classes_of_unseen_ones():
    for seed in range(3):
        vectors, labels, is_own = problem(seed)
        own = np.eye(4, dtype=bool)[labels]
        known = np.where(is_own[:, None], own, NESTED[labels // 2])
        known[1000:] = False
        few = own & (np.arange(1500) < 44)[:, None]  # four more labels, so that there are rows with candidates
        assert accuracy_of(known, is_own, vectors, labels) > accuracy_of(few, is_own, vectors, labels) + 0.02
