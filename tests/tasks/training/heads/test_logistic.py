import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tasks.data.vectors.embeddings import read_embeddings, write_embeddings
from tasks.training.heads.logistic import Solver, fit_head
from tasks.training.heads.options import HeadOptions
from tasks.training.heads.rows import TrainingRows
from tests.kit.programs import run


def problem(*, n, seed, num_classes=3, dim=5, noise=2.0):
    """Vectors around a centre a class, of unequal scale and off zero; labels."""
    centres = np.random.default_rng(1).normal(size=(num_classes, dim))
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, num_classes, n)
    vectors = centres[labels] + noise * generator.normal(size=(n, dim))
    return vectors * np.geomspace(0.1, 5, dim) + 7.0, labels


TRAIN, VAL = problem(n=60, seed=2), problem(n=400, seed=3)


def names(num_classes):
    return [f"class {number}" for number in range(num_classes)]


def fit(
    train=TRAIN, val=VAL, *, l2_strengths=(0.01,), num_classes=3, max_iterations=2000, class_weights="none", **settings
):
    options = HeadOptions(
        head="logistic", class_weights=class_weights, hidden_features=1, l2_strengths=list(l2_strengths),
        max_iterations=max_iterations, words="never", sharing="never",
    )  # fmt: skip
    return fit_head(train, val, options, classes=names(num_classes), **settings)


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


def test_class_without_training_samples_is_named():
    with pytest.raises(ValueError, match="train has no sample of class class 3: add some"):
        fit(num_classes=4)
    with pytest.raises(ValueError, match="train has no sample of class class 3 and of 2 more"):
        fit(num_classes=6)


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


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
@pytest.mark.parametrize("l2", [0.0003, 0.03])
def test_probabilities_are_those_of_scikit_learn(class_weights, l2):
    vectors, labels = problem(n=3000, seed=5, num_classes=7, dim=20)
    keep = (labels > 2) | (np.random.default_rng(0).random(len(labels)) < 0.2)  # some classes are rare
    train = vectors[keep], labels[keep]
    mean, scale = train[0].mean(axis=0), train[0].std(axis=0)
    reference = LogisticRegression(
        C=1 / (l2 * keep.sum()), max_iter=10_000, tol=1e-8, class_weight=None if class_weights == "none" else "balanced"
    )
    reference.fit((train[0] - mean) / scale, train[1])
    head = fit(train, (vectors, labels), l2_strengths=[l2], num_classes=7, class_weights=class_weights)
    expected = reference.predict_proba((vectors - mean) / scale)
    assert np.exp(head.log_probabilities(vectors)) == pytest.approx(expected, abs=5e-3)


def test_solution_is_within_a_hundred_thousandth_of_the_least_loss():
    vectors, labels = problem(n=3000, seed=5, num_classes=7, dim=20)
    solver = Solver(TrainingRows(vectors, labels, names(7)), max_iterations=500)
    for l2, solution in solver.path([1.0, 0.01, 0.0001]):
        exact = Solver(TrainingRows(vectors, labels, names(7)), max_iterations=500).solve(l2, tolerance=1e-10)
        assert solution.value(l2) <= exact.value(l2) + 1e-5


@pytest.mark.parametrize("in_memory_bytes", [0, 2**30])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_bits_depend_neither_on_memory_nor_on_cores(tmp_path, in_memory_bytes, num_threads):
    vectors, labels = problem(n=4000, seed=6)
    halves = vectors.astype(np.float16)
    for name, part in (("a", halves[:1500]), ("b", halves[1500:])):
        write_embeddings(tmp_path / f"{name}.safetensors", [part], shape=part.shape, recipe="r")
    on_disk = read_embeddings(tmp_path, ["a", "b"], num_samples=4000)
    rows = np.flatnonzero(np.random.default_rng(0).random(4000) < 0.7)

    def solve(vectors, **options):
        solver = Solver(TrainingRows(vectors, labels[rows], names(3), **options), max_iterations=100)
        return solver.solve(0.001).point.tobytes()

    expected = solve(halves[rows])
    assert solve(on_disk.part(rows), in_memory_bytes=in_memory_bytes, num_threads=num_threads) == expected


def test_ten_thousand_classes_are_told_apart():
    """A step is enough for that, which is what a test has time for."""
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(10_000, 24)).astype(np.float16)  # a sample a class
    solver = Solver(TrainingRows(vectors, np.arange(10_000), names(10_000)), max_iterations=1)
    before, after = solver.solve(1e-5, tolerance=np.inf), solver.solve(1e-5)
    assert after.objective < before.objective - 1
    weight, bias = solver.fold(after)
    assert ((vectors[:500] @ weight.T + bias).argmax(axis=1) == np.arange(500)).mean() > 0.7


def test_vectors_on_disk_are_never_in_memory_all_at_once(tmp_path):
    """Three times the vectors take hardly more memory: here 41 MB of them in half precision, then 123 MB."""
    from benchmarks.head import FROM_DISK

    grown = []
    for n in (40_000, 120_000):
        done = run(sys.executable, "-c", FROM_DISK, str(tmp_path), str(n), "512", cwd=Path(__file__).parents[4])
        before, after = map(int, done.stdout.split())
        grown.append(after - before)
    assert grown[1] < grown[0] + 40_000_000


def test_two_classes_are_enough():
    vectors, labels = problem(n=200, seed=2, num_classes=2)
    head = fit((vectors, labels), (vectors, labels), num_classes=2)
    assert (head.log_probabilities(vectors).argmax(axis=1) == labels).mean() > 0.6


def test_more_features_than_rows_do_no_harm():
    vectors, labels = problem(n=60, seed=2, dim=300)
    val = problem(n=400, seed=3, dim=300)
    mean, scale = vectors.mean(axis=0), vectors.std(axis=0)
    reference = LogisticRegression(C=1 / (0.1 * 60), max_iter=10_000, tol=1e-8)
    reference.fit((vectors - mean) / scale, labels)
    expected = log_loss(reference.predict_log_proba((val[0] - mean) / scale), val[1])
    assert fit((vectors, labels), val, l2_strengths=[0.1]).val_log_loss == pytest.approx(expected, abs=2e-3)


def test_too_few_iterations_are_told(caplog):
    with caplog.at_level(logging.WARNING, logger="graftline"):
        fit(l2_strengths=[1e-5], max_iterations=1)
    assert "the head for l2 1e-05 is not solved after 1 iterations" in caplog.text
    assert "raise train_head.max_iterations" in caplog.text


def test_without_labels_on_val_the_strength_in_the_middle_is_taken():
    head = fit(val=(VAL[0][:0], VAL[1][:0]), l2_strengths=[0.001, 0.1, 10.0])
    assert (head.l2, head.val_log_loss) == (0.1, None)


def test_cautious_choice_is_better_with_few_labels_and_no_worse_with_many():
    generator = np.random.default_rng(5)
    directions = generator.normal(size=(3, 60))

    def draw(n):
        labels = np.arange(n) % 3
        return 0.35 * directions[labels] + generator.normal(size=(n, 60)), labels

    heldout, labels = draw(3000)

    def accuracy(num_train, num_val, *, cautious):
        strengths = (1e-4, 1e-3, 1e-2, 0.1, 1.0)
        heads = [fit(draw(num_train), draw(num_val), l2_strengths=strengths, cautious=cautious) for _ in range(10)]
        return np.mean([(head.log_probabilities(heldout).argmax(axis=1) == labels).mean() for head in heads])

    assert accuracy(15, 6, cautious=True) > accuracy(15, 6, cautious=False)
    assert accuracy(900, 300, cautious=True) > accuracy(900, 300, cautious=False) - 0.005
