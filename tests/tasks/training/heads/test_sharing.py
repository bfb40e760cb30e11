import copy
import weakref

import numpy as np
import pytest

from tasks.targets.classes import Classes
from tasks.targets.number import Number
from tasks.targets.ordinal import Ordinal
from tasks.targets.several import Several
from tasks.training.heads.folds import NUM_FOLDS, folds_of
from tasks.training.heads.linear import fit_linear
from tasks.training.heads.options import HeadOptions
from tasks.training.heads.rows import StandardRows
from tasks.training.heads.sharing import MOST_LABELS, Candidates, Labelled, share

OPTIONS = HeadOptions(
    head="logistic", class_weights="none", hidden_features=1, l2_strengths=[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0],
    max_iterations=300, words="never", sharing="auto",
)  # fmt: skip
N, DIM = 900, 48
KINDS = ("classes", "several", "ordinal", "number")


def of_kind(kind, scores):
    """Return a target of a kind and its truths, which four noisy scores (n, 4) give."""
    if kind == "classes":
        return Classes(("a", "b", "c", "d")), scores.argmax(axis=1)
    if kind == "several":
        return Several(("a", "b", "c", "d")), (scores > 0).astype(float)
    if kind == "ordinal":
        return Ordinal(("a", "b", "c")), np.digitize(scores[:, 0], (-1.5, 1.5))
    return Number().standardised(scores[:, 0]), scores[:, 0]


def problem(*kinds, related=True, num_labels=120, seed=0):
    """Vectors, and a target a kind, the first with few labels.

    Related targets depend on the same three directions, others on directions of their own.
    """
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(N, DIM))
    common = np.linalg.qr(generator.normal(size=(DIM, 3)))[0]
    labelled = {}
    for number, kind in enumerate(kinds):
        own = common if related else np.linalg.qr(generator.normal(size=(DIM, 3)))[0]
        scores = 3 * vectors @ own @ generator.normal(size=(3, 4)) + generator.gumbel(size=(N, 4))
        target, truths = of_kind(kind, scores - scores.mean())
        rows = np.arange(num_labels if number == 0 else N)
        labelled[f"{kind} {number}"] = Labelled(target=target, rows=rows, truths=truths[rows])
    return vectors, labelled


def shared(vectors, labelled, *, folds=None, each=None):
    heads = {}
    for name, own in labelled.items():
        train = vectors[own.rows], own.truths
        heads[name] = fit_linear(own.target, train, (vectors[:0], own.truths[:0]), OPTIONS)
    folds = folds_of(map(str, range(N))) if folds is None else folds
    return heads, *share(labelled, heads, vectors.__getitem__, folds, OPTIONS, each=each)


@pytest.mark.parametrize("kind", KINDS)
def test_target_of_any_kind_with_few_labels_learns_from_heads_of_other_kinds(kind):
    vectors, labelled = problem(kind, *(other for other in KINDS if other != kind))
    alone, together, comparisons = shared(vectors, labelled)
    first = f"{kind} 0"
    assert comparisons[first].is_shared
    assert comparisons[first].facts()["with"] == [name for name in labelled if name != first]
    target, (unseen, truths) = labelled[first].target, unseen_of(kind)

    def loss(head):
        return target.losses(unseen @ head.weight.T + head.bias, truths).mean()

    assert loss(together[first]) < loss(alone[first])


def unseen_of(kind):
    """Return other vectors and truths of the first target of `problem`."""
    vectors, labelled = problem(kind, *(other for other in KINDS if other != kind), num_labels=N)
    own = next(iter(labelled.values()))
    return vectors[120:], own.truths[120:]


@pytest.mark.parametrize("num_labels", [30, 120])
def test_unrelated_targets_stay_alone_to_the_bit(num_labels):
    for seed in range(4):
        alone, together, comparisons = shared(
            *problem("classes", "classes", "several", related=False, num_labels=num_labels, seed=seed)
        )
        assert not comparisons["classes 0"].is_shared
        assert together["classes 0"] is alone["classes 0"]


def nested(num_labels=80, *, num_classes=6):
    """Vectors, a target with few labels, and one whose two classes hold three of its classes each."""
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(N, DIM))
    scores = 2 * vectors[:, :8] @ generator.normal(size=(8, num_classes)) + generator.gumbel(size=(N, num_classes))
    labels = scores.argmax(axis=1)
    rows = np.arange(num_labels)
    fine = Labelled(target=Classes(tuple("abcdef")), rows=rows, truths=labels[rows])
    coarse = Labelled(target=Classes(("abc", "def")), rows=np.arange(600), truths=labels[:600] // 3)
    return vectors, labels, {"fine": fine, "coarse": coarse}


def test_target_learns_from_the_labels_of_a_coarser_one_where_that_pays():
    vectors, labels, labelled = nested()
    alone, together, comparisons = shared(vectors, labelled)
    assert comparisons["fine"].facts()["given"] == "labels"
    assert comparisons["fine"].is_shared
    unseen = slice(600, N)

    def accuracy(head):
        return ((vectors[unseen] @ head.weight.T + head.bias).argmax(axis=1) == labels[unseen]).mean()

    assert accuracy(together["fine"]) > accuracy(alone["fine"]) + 0.03


def test_coarser_labels_that_say_nothing_of_the_vectors_leave_the_head_alone():
    vectors, _, labelled = nested()
    shuffled = vectors.copy()
    shuffled[80:] = np.random.default_rng(1).permutation(shuffled[80:])
    alone, together, comparisons = shared(shuffled, labelled)
    assert not comparisons["fine"].is_shared
    assert together["fine"] is alone["fine"]


def test_row_that_may_have_a_class_which_a_fold_lacks_says_nothing_there():
    whole, learned = Classes(("cat", "dog", "car", "van")), Classes(("cat", "car", "van"))
    classes = np.array([[True, True, False, False], [False, False, True, True], [False, False, True, True]])
    candidates = Candidates(coarser=("sort",), rows=np.array([3, 5, 8]), classes=classes)
    part = candidates.of(learned, whole, is_kept=np.array([True, True, False]))
    assert part.rows.tolist() == [5]
    assert part.classes.tolist() == [[False, True, True]]


def test_shared_head_does_not_depend_on_the_order_of_the_targets():
    vectors, labelled = problem("classes", "classes", "number")
    _, one, _ = shared(vectors, labelled)
    _, other, _ = shared(vectors, dict(reversed(labelled.items())))
    assert one["classes 0"].weight == pytest.approx(other["classes 0"].weight, abs=1e-5)


def test_giver_that_saw_a_fold_is_not_trusted_about_it():
    """A noisy copy knows the labels of the rows that it saw, noise and all; only heads that did not see them count."""
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(N, 2 * N))  # so many features that any labels can be learned by heart
    labels = generator.integers(0, 2, N)
    rows = np.arange(150)
    own = Labelled(target=Classes(("a", "b")), rows=rows, truths=labels[rows])
    copied = Labelled(target=Classes(("a", "b")), rows=np.arange(300), truths=labels[:300])
    _, _, comparisons = shared(vectors, {"own": own, "copy": copied})
    assert not comparisons["own"].is_shared


def test_target_with_very_few_or_very_many_labels_is_not_tried_but_gives():
    vectors, labelled = problem("classes", "classes")
    few = labelled["classes 0"].only(np.arange(120) < 9)
    _, _, comparisons = shared(vectors, labelled | {"few": few})
    assert set(comparisons) == {"classes 0", "classes 1"}
    assert "few" in comparisons["classes 0"].givers
    assert N < MOST_LABELS


def test_folds_and_targets_in_other_processes_give_the_same_heads():
    def each(items, function, **given):
        for item in items:
            yield function(item, **copy.deepcopy(given))  # another process has a copy

    vectors, labelled = problem("classes", "number", "several")
    _, heads, comparisons = shared(vectors, labelled)
    _, there, compared = shared(vectors, labelled, each=each)
    assert compared == comparisons
    assert any(comparison.is_shared for comparison in comparisons.values())
    for name, head in heads.items():
        assert np.array_equal(there[name].weight, head.weight)


def test_one_target_has_nothing_to_share():
    vectors, labelled = problem("classes")
    alone, together, comparisons = shared(vectors, labelled)
    assert (together, comparisons) == (alone, {})


def test_class_that_is_in_one_fold_alone_is_left_out_of_the_comparison():
    vectors, labelled = problem("classes", "classes")
    own = labelled["classes 0"]
    folds = folds_of(map(str, range(N)))
    is_rare = (folds[own.rows] == 0) & (own.truths == 3)
    kept = own.only(is_rare | (own.truths != 3))
    assert is_rare.any()
    _, _, comparisons = shared(vectors, labelled | {"classes 0": kept}, folds=folds)
    assert np.isfinite(comparisons["classes 0"].together)


def test_fold_of_a_sample_depends_on_its_name_alone():
    names = [str(number) for number in range(2000)]
    folds = folds_of(names)
    assert folds_of(reversed(names)).tolist() == folds[::-1].tolist()
    assert np.bincount(folds, minlength=NUM_FOLDS).min() > 300


def test_rows_of_few_folds_are_in_memory_however_many_targets_have_labels_of_their_own(monkeypatch):
    vectors, labelled = problem(*["number"] * 5, num_labels=N)
    labelled = {
        name: own.only(np.arange(N) % 7 != number) for number, (name, own) in enumerate(labelled.items())
    }  # fmt: skip
    made, alive = [], []

    def counted(*arguments, **options):
        rows = StandardRows(*arguments, **options)
        made.append(weakref.ref(rows))
        alive.append(sum(each() is not None for each in made))
        return rows

    monkeypatch.setattr("tasks.training.heads.sharing.StandardRows", counted)
    shared(vectors, labelled)
    assert len(made) > 5 * NUM_FOLDS - 1
    assert max(alive) <= NUM_FOLDS + 1
