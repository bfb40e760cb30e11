"""What few labels of the target are worth, and how they reach their neighbours."""

import numpy as np

from tasks.training.alignment import labelled
from tasks.training.alignment.adaptation import Problem
from tasks.training.alignment.domains import Domains, TargetDomain
from tasks.training.alignment.labelled import propagate
from tests.kit.domains import CLASSES, asked, drawn, source


def test_an_answer_is_drawn_to_those_of_its_neighbours():
    generator = np.random.default_rng(0)
    centres = np.eye(2)[np.repeat([0, 1], 30)]
    vectors = (centres + 0.05 * generator.standard_normal((60, 2))).astype(np.float32)
    answers = np.full((60, 2), 0.5)
    answers[[0, 1, 30, 31]] = np.eye(2)[[0, 0, 1, 1]]
    assert (propagate(vectors, answers).argmax(axis=1) == np.repeat([0, 1], 30)).all()


def test_a_single_sample_has_no_neighbours():
    answers = np.array([[0.3, 0.7]])
    assert (propagate(np.ones((1, 4), np.float32), answers) == answers).all()


def test_labels_are_propagated_over_a_bounded_graph(monkeypatch):
    """It has the likeness of all pairs, so a target with thousands of labels would cost gigabytes."""
    vectors, truth = drawn(400, seed=1)
    target = TargetDomain(name="cartoon", vectors=vectors, labels=truth)
    work = Problem(Domains(sources=[source()], target=target, classes=CLASSES), asked(), seed=0)
    few = labelled.Few(
        space=work.plain, domains=work.domains, adapted=work.base.layer, rows=np.arange(100, 400), labels=truth[100:]
    )
    sizes = []

    def propagate(vectors, answers):
        sizes.append(len(vectors))
        return answers

    monkeypatch.setattr(labelled, "MOST_SAMPLES", 40)
    monkeypatch.setattr(labelled, "propagate", propagate)
    weight, bias = labelled.propagated(few)
    assert sizes[0] <= 60
    assert ((vectors @ weight.T + bias).argmax(axis=1) == truth).mean() > 0.7
