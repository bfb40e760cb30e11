import numpy as np
import pandas as pd
import pytest
import torch

from tasks.targets.classes import Classes
from tasks.targets.ordinal import Ordinal

TARGET = Classes(("cat", "dog", "eel"))
LOGITS = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0], [0.0, 1.0, 1.5]])


def test_labels_are_places_and_a_missing_label_stays_missing():
    truths = TARGET.encode(pd.Series(["dog", None, "cat"]))
    assert truths.tolist() == [1, -1, 0]
    assert TARGET.has_label(truths).tolist() == [True, False, True]
    with pytest.raises(ValueError, match="the manifest has class 'fox', expected one of cat, dog, eel: train the head"):
        TARGET.encode(pd.Series(["fox"]))


def test_likeliest_class_is_the_answer_and_a_wrong_one_is_an_error_of_one():
    answers = TARGET.answers(LOGITS, temperature=2.0)
    assert answers.sum(axis=1) == pytest.approx(1)
    assert TARGET.shown(answers) == ["cat", "dog", "eel"]
    assert TARGET.errors(answers, np.array([0, 2, 2])).tolist() == [0, 1, 0]


def test_exported_answers_are_those_of_numpy():
    exported = TARGET.deployed(torch.from_numpy(LOGITS), temperature=1.7).numpy()
    assert exported == pytest.approx(TARGET.answers(LOGITS, temperature=1.7))


def test_loss_in_training_leaves_missing_labels_out():
    truths = np.array([0, 2, 2])
    known = TARGET.summed_loss(torch.from_numpy(LOGITS), torch.from_numpy(truths).float()[:, None])
    assert float(known) == pytest.approx(TARGET.losses(LOGITS, truths).sum())
    some = torch.tensor([[0.0], [float("nan")], [2.0]])
    left = TARGET.summed_loss(torch.from_numpy(LOGITS), some)
    assert float(left) == pytest.approx(TARGET.losses(LOGITS, truths)[[0, 2]].sum())


def test_constant_answer_is_the_most_frequent_class():
    assert TARGET.constant(np.array([1, 1, 2])).tolist() == [[0, 1, 0]]


def test_answers_of_a_model_that_knows_other_classes_are_put_in_order():
    answers, judge = Classes(("eel", "ape")).aligned(np.array([[0.7, 0.3]]), TARGET)
    assert (answers.tolist(), judge) == ([[0, 0, 0.7]], TARGET)
    assert TARGET.aligned(np.ones((1, 3)), Ordinal(("a", "b", "c"))) is None
