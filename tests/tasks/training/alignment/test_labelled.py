"""What few labels of the target are worth, and how they reach their neighbours."""

import numpy as np

from tasks.training.alignment.labelled import propagate


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
