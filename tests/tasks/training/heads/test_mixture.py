import numpy as np
import pytest

from tasks.targets.classes import Classes
from tasks.targets.number import Number
from tasks.training.heads.linear import fit_linear
from tasks.training.heads.mixture import fit_depths, fit_few
from tasks.training.heads.options import HeadOptions

OPTIONS = HeadOptions(
    head="logistic", class_weights="none", hidden_features=16, l2_strengths=[0.01, 0.1, 1.0], max_iterations=200,
    words="never", sharing="never",
)  # fmt: skip
TARGET = Classes(("cat", "dog", "eel"))
EARLY, LAST = 40, 20  # features


def draw(n, *, seed, early=0.0, last=0.0, labels=None):
    """Vectors of two depths (n, EARLY + LAST), in which the classes lie `early` and `last` apart, and labels (n,)."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, n) if labels is None else labels
    vectors = generator.normal(size=(n, EARLY + LAST))
    vectors[np.arange(n), labels] += early
    vectors[np.arange(n), EARLY + labels] += last
    return vectors.astype(np.float32), labels


def accuracy(head, rows):
    vectors, labels = rows
    return float((head.log_probabilities(vectors).argmax(axis=1) == labels).mean())


@pytest.mark.parametrize(("apart", "expected"), [({"last": 2.0}, "last"), ({"early": 2.0, "last": 0.3}, "all")])
def test_val_finds_the_depths_that_know_the_classes(apart, expected):
    train, val, heldout = (draw(n, seed=seed, **apart) for seed, n in enumerate((90, 300, 2000)))
    head, share = fit_depths(TARGET, train, val, OPTIONS, part_dims=[EARLY, LAST])
    assert share < 0.5 if expected == "last" else share > 0.8
    whole = fit_linear(TARGET, train, val, OPTIONS, part_dims=[EARLY, LAST])
    assert accuracy(head, heldout) >= accuracy(whole, heldout) - 0.01


def test_without_labels_on_val_both_heads_count_the_same():
    head, share = fit_depths(
        TARGET, draw(90, seed=0, last=3.0), draw(0, seed=1), OPTIONS, part_dims=[EARLY, LAST]
    )  # fmt: skip
    assert share == 0.5
    assert accuracy(head, draw(500, seed=2, last=3.0)) > 0.8


def test_one_depth_has_one_head_under_one_scale():
    train, val = draw(90, seed=0, early=2.0), draw(60, seed=1, early=2.0)
    head, share = fit_depths(TARGET, train, val, OPTIONS, part_dims=[EARLY + LAST])
    assert share is None
    assert head.weight == pytest.approx(fit_linear(TARGET, train, val, OPTIONS, part_dims=[EARLY + LAST]).weight)


def test_a_number_is_learned_from_several_depths_too():
    def numbers(n, seed):
        vectors, _ = draw(n, seed=seed)
        return vectors, (5 * vectors[:, 0] + 5 * vectors[:, EARLY]).astype(np.float64)

    train, val, heldout = numbers(200, 0), numbers(100, 1), numbers(500, 2)
    target = Number().standardised(train[1])
    head, share = fit_depths(target, train, val, OPTIONS, part_dims=[EARLY, LAST])
    assert share > 0.9
    said = target.centre + target.scale * (heldout[0] @ head.weight[0] + head.bias[0])
    assert np.corrcoef(said, heldout[1])[0, 1] > 0.98


def test_few_labels_lean_on_the_means_of_their_classes_and_many_do_not():
    balanced = np.arange(12) % 3
    few, val = draw(12, seed=0, last=2.0, labels=balanced), draw(6, seed=1, last=2.0, labels=balanced[:6])
    alone = [fit_linear(TARGET, rows, val, OPTIONS, cautious=True) for rows in (few, draw(90, seed=3, last=2.0))]
    assert not np.allclose(fit_few(TARGET, few, val, OPTIONS).weight, alone[0].weight)
    many = fit_few(TARGET, draw(90, seed=3, last=2.0), val, OPTIONS)
    assert np.array_equal(many.weight, alone[1].weight)
