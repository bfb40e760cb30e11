from dataclasses import replace

import numpy as np
import pytest
import torch

from tasks.targets.classes import Classes
from tasks.training.heads.logistic import fit_head
from tasks.training.heads.mlp import fit_mlp
from tasks.training.heads.options import HeadOptions

OPTIONS = HeadOptions(
    head="mlp",
    class_weights="none",
    hidden_features=32,
    l2_strengths=[0.001],
    max_iterations=100,
    words="never",
    sharing="never",
)


def problem(*, n, seed):
    """Two classes, of which each fills two opposite quarters of the plane."""
    vectors = np.random.default_rng(seed).normal(size=(n, 2)) * (3.0, 0.2) + (5.0, -1.0)
    return vectors, ((vectors[:, 0] > 5) ^ (vectors[:, 1] > -1)).astype(np.int64)


TRAIN, VAL, HELDOUT = problem(n=600, seed=0), problem(n=200, seed=1), problem(n=400, seed=2)


@pytest.fixture(autouse=True)
def one_thread():
    """Layers as small as these are not worth sharing."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def accuracy(layers):
    (weight, bias), (output, output_bias) = layers
    logits = np.maximum(HELDOUT[0] @ weight.T + bias, 0) @ output.T + output_bias
    return (logits.argmax(axis=1) == HELDOUT[1]).mean()


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_what_no_linear_head_can_learn_is_learned(class_weights):
    linear = fit_head(TRAIN, VAL, OPTIONS, classes=["a", "b"])
    assert (linear.log_probabilities(HELDOUT[0]).argmax(axis=1) == HELDOUT[1]).mean() < 0.7
    options = replace(OPTIONS, class_weights=class_weights)
    assert accuracy(fit_mlp(TRAIN, VAL, options, target=Classes(("a", "b")), seed=0)) > 0.95


def test_fewer_rows_than_a_minibatch_are_enough():
    few = TRAIN[0][:60], TRAIN[1][:60]
    assert accuracy(fit_mlp(few, VAL, OPTIONS, target=Classes(("a", "b")), seed=0)) > 0.85
