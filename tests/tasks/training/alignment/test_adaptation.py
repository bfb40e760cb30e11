"""A head adapts to a domain that moved, stays where nothing did, and never sees the labels that judge."""

from dataclasses import replace

import numpy as np
import pytest

from tasks.training.alignment import labelled
from tasks.training.alignment.adaptation import Problem, adapt
from tasks.training.alignment.domains import DomainHead, Domains, SourceDomain, TargetDomain
from tests.kit.domains import CLASSES, DIM, accuracy, asked, domains, drawn, source

MOVED = {"move": 3.0, "stretch": 2.0}
UNEVEN = {"shares": (0.8, 0.15, 0.05)}


def test_auto_adapts_to_features_that_moved():
    problem, labels = domains(**MOVED)
    found = adapt(problem, asked(), seed=0)
    assert found.head.method == "infomax"
    vectors = problem.target.vectors
    assert accuracy(found.head, vectors, labels) > accuracy(found.source_only, vectors, labels) + 0.2
    assert found.changed > 0.2


def test_auto_keeps_the_head_of_the_sources_where_nothing_moved():
    problem, _ = domains()
    found = adapt(problem, asked(), seed=0)
    assert found.head.method == "source"
    assert found.head.weight.tobytes() == found.source_only.weight.tobytes()
    assert found.changed == 0
    assert found.head.facts["separation"]["auc"] < 0.6
    assert "cannot tell" in found.head.facts["reason"]


def test_auto_moves_only_the_shares_where_only_they_moved():
    problem, labels = domains(num=600, **UNEVEN)
    found = adapt(problem, asked(), seed=0)
    assert found.head.method == "label_shift"
    estimated = found.head.facts["estimated"]
    assert list(estimated.values()) == pytest.approx(UNEVEN["shares"], abs=0.05)
    vectors, labels = drawn(600, seed=7, **UNEVEN)
    assert accuracy(found.head, vectors, labels) >= accuracy(found.source_only, vectors, labels)


@pytest.mark.parametrize(("num", "method"), [(300, "infomax_as_is"), (60, "source")])
def test_a_moderate_shift_is_undone_carefully_and_with_few_samples_not_at_all(num, method):
    problem, labels = domains(num=num, move=0.4)
    found = adapt(problem, asked(), seed=0)
    assert found.head.method == method
    assert 0.6 < found.head.facts["separation"]["auc"] < 0.8
    vectors = problem.target.vectors
    assert accuracy(found.head, vectors, labels) >= accuracy(found.source_only, vectors, labels)


def test_shares_that_nothing_says_have_moved_stay():
    """The classifier sees too little once the sources have the estimated shares; the answers moved by chance."""
    problem, _ = domains(num=50, seed=33, move=0.35)
    found = adapt(problem, asked(), seed=0)
    assert found.head.facts["separation"]["z"] > 3 > found.head.facts["separation_at_shares"]["z"]
    assert found.head.method == "source"
    assert found.changed == 0


@pytest.mark.parametrize(
    "options",
    [
        asked(method="standardise"),
        asked(method="infomax"),
        asked(method="align", align="coral"),
        asked(method="align", align="mmd"),
        asked(method="align", align="dann"),
    ],
    ids=lambda options: f"{options.method} {options.align}",
)
def test_each_map_of_the_domains_gives_a_linear_head_that_is_better_there(options):
    problem, labels = domains(**MOVED)
    head = adapt(problem, options, seed=0).head
    assert head.weight.shape == (len(CLASSES), DIM)
    assert head.method == options.method
    vectors = problem.target.vectors
    assert (
        accuracy(head, vectors, labels) > accuracy(adapt(problem, asked(), seed=0).source_only, vectors, labels) + 0.1
    )


@pytest.mark.parametrize("weights", ["classifier", "kernel"])
def test_weights_favour_the_source_samples_that_resemble_the_target(weights):
    problem, labels = domains(**UNEVEN)
    head = adapt(problem, asked(method="reweight", weights=weights), seed=0).head
    assert 20 < head.facts["effective_samples"] < 239
    assert accuracy(head, problem.target.vectors, labels) > 0.8


def test_the_same_seed_gives_the_same_bytes():
    problem, _ = domains(**MOVED)
    for options in (asked(), asked(method="align", align="dann")):
        first, second = (adapt(problem, options, seed=3).head for _ in range(2))
        assert first.weight.tobytes() + first.bias.tobytes() == second.weight.tobytes() + second.bias.tobytes()


def with_labels(num_labels, *, permuted=False):
    """Return a moved target: 100 of its samples judge, and `num_labels` of the others are labelled."""
    vectors, labels = drawn(400, seed=1, **MOVED)
    judges = np.arange(400) < 100
    if permuted:
        labels[judges] = np.random.default_rng(5).permutation(labels[judges])
    known = np.where(judges | (np.arange(400) < 100 + num_labels), labels, -1)
    target = TargetDomain.without_judges("cartoon", vectors, known, judges=judges)
    return Domains(sources=[source()], target=target, classes=CLASSES), vectors[judges], labels[judges]


def test_permuting_the_labels_that_judge_changes_no_byte_of_the_head():
    heads = [adapt(with_labels(40, permuted=permuted)[0], asked(), seed=0).head for permuted in (False, True)]
    assert heads[0].weight.tobytes() + heads[0].bias.tobytes() == heads[1].weight.tobytes() + heads[1].bias.tobytes()
    assert heads[0].facts == heads[1].facts


def test_labels_of_the_target_that_do_not_judge_count():
    problem, vectors, labels = with_labels(60)
    own = adapt(problem, asked(method="source"), seed=0)
    assert own.head.facts["num_labels"] == 60
    assert set(own.head.facts["brier"]) == {"adapted", "informed", "pooled", "towards", "propagated"}
    assert own.head.facts["labels"] != "adapted"
    assert accuracy(own.head, vectors, labels) > accuracy(own.source_only, vectors, labels) + 0.1


@pytest.mark.parametrize("candidate", labelled.CANDIDATES)
def test_each_candidate_with_labels_is_better_there_than_the_sources_own_head(candidate):
    problem, vectors, labels = with_labels(60)
    rows = np.flatnonzero(problem.target.is_labelled)
    work = Problem(problem, asked(), seed=0)
    few = labelled.Few(
        space=work.standardised, domains=problem, adapted=work.standardised_base.layer, rows=rows,
        labels=problem.target.labels[rows],
    )  # fmt: skip
    weight, bias = work.standardised.fold(*labelled.CANDIDATES[candidate](few))
    head = DomainHead(weight=weight, bias=bias, method=candidate)
    assert (
        accuracy(head, vectors, labels) > accuracy(adapt(problem, asked(), seed=0).source_only, vectors, labels) + 0.1
    )


def test_each_of_several_sources_is_standardised_by_itself():
    sources = [source("photo"), source("sketch", seed=5, move=-4.0, stretch=1.5)]
    problem, labels = domains(sources=sources, **MOVED)
    head = adapt(problem, asked(method="infomax"), seed=0).head
    assert accuracy(head, problem.target.vectors, labels) > 0.8


def test_sources_of_a_few_samples_each_do_no_harm():
    """Standardised by its own moments alone, a single sample is the same as any other."""
    vectors, labels = drawn(300, seed=0)
    single = [
        SourceDomain(name=str(row), train=(vectors[[row]], labels[[row]]), val=(vectors[:0], labels[:0]))
        for row in range(len(vectors))
    ]
    together, truth = domains(move=1.0)
    found = adapt(replace(together, sources=single), asked(method="standardise"), seed=0)
    right = accuracy(found.head, together.target.vectors, truth)
    assert right > accuracy(found.source_only, together.target.vectors, truth)


def test_a_class_that_one_source_lacks_may_come_from_another():
    part = source("sketch", seed=5)
    has = part.train[1] != 2
    part = replace(part, train=(part.train[0][has], part.train[1][has]))
    problem, labels = domains(sources=[source("photo"), part], **MOVED)
    head = adapt(problem, asked(), seed=0).head
    assert head.facts["absent_classes"] == {"sketch": ["owl"]}
    assert accuracy(head, problem.target.vectors, labels) > 0.8


def test_sources_without_val_get_a_middle_strength():
    part = replace(source(), val=(np.empty((0, DIM), np.float32), np.empty(0, np.int64)))
    problem, labels = domains(sources=[part], **MOVED)
    found = adapt(problem, asked(), seed=0)
    assert found.source_only.facts["l2"] == 0.01
    assert accuracy(found.head, problem.target.vectors, labels) > 0.8


def test_a_feature_that_is_constant_in_one_domain_is_told_and_does_no_harm():
    problem, labels = domains(**MOVED)
    problem.target.vectors[:, 3] = 0.25
    for method in ("auto", "standardise", "infomax", "align", "reweight"):
        head = adapt(problem, asked(method=method), seed=0).head
        assert head.facts["constant_features"] == 1
        assert np.isfinite(head.weight).all()
    assert accuracy(adapt(problem, asked(), seed=0).head, problem.target.vectors, labels) > 0.8


@pytest.mark.parametrize(
    ("target", "options", "reason"),
    [
        (drawn(7, seed=1, **MOVED)[0], asked(), "it has 7 samples, expected at least 20"),
        (np.ones((50, DIM), np.float32), asked(), "all of its 50 samples have the same vector"),
        (
            drawn(100, seed=1, move=300.0)[0], asked(method="reweight", weights="kernel"),
            "none of the sources' 240 samples resembles its samples",
        ),
    ],
    ids=["few samples", "one vector", "disjoint supports"],
)  # fmt: skip
def test_the_head_of_the_sources_stays_with_a_warning(target, options, reason, caplog):
    problem = Domains(sources=[source()], target=unlabelled(target), classes=CLASSES)
    found = adapt(problem, options, seed=0)
    assert found.head.method == "source"
    assert found.head.weight.tobytes() == found.source_only.weight.tobytes()
    assert reason in found.head.facts["reason"]
    assert "domain cartoon" in caplog.text


def changed(**changes):
    target = unlabelled(drawn(50, seed=1)[0])
    return {"sources": [source()], "target": target, "classes": CLASSES} | changes


def unlabelled(vectors):
    return TargetDomain.unlabelled("cartoon", vectors)


def without_class(label):
    vectors, labels = drawn(200, seed=0)
    has = labels != label
    return SourceDomain(name="photo", train=(vectors[has], labels[has]), val=(vectors[:10], labels[:10]))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (changed(sources=[]), "one domain only, cartoon"),
        (changed(target=unlabelled(np.empty((0, DIM)))), "target domain cartoon has no samples"),
        (changed(sources=[without_class(2)]), "no source domain has a sample of class owl in train"),
        (
            changed(
                sources=[without_class(2)],
                target=TargetDomain(name="cartoon", vectors=np.zeros((3, DIM)), labels=np.array([2, -1, 0])),
            ),
            "the target domain cartoon has labels of it",
        ),
        (changed(classes=[*CLASSES, "cow"]), "class cow"),
        (changed(classes=CLASSES[:2]), "domain photo has labels 0 to 2, expected 0 to 1"),
        (changed(target=unlabelled(np.zeros((3, 5)))), "different recipes"),
        (changed(target=TargetDomain.unlabelled("cartoon", np.zeros((3, DIM)), recipe="other")), "different recipes"),
        (changed(target=unlabelled(np.full((30, DIM), np.nan))), "not finite"),
        (changed(sources=[replace(source(), train=(np.empty((0, DIM)), np.empty(0, int)))]), "no labelled samples"),
    ],
)  # fmt: skip
def test_domains_that_cannot_be_adapted_are_refused_in_one_line(parts, message):
    with pytest.raises(ValueError, match=message) as refusal:
        Domains(**parts)
    assert "\n" not in str(refusal.value)
