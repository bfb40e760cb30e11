"""Pairs of samples in the place of their labels, in the training loop."""

import math
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn

from tasks.machine import cores as cores_module
from tasks.targets.classes import Classes
from tasks.training.finetuning.checkpoint import Checkpoint
from tasks.training.loop import fit as loop
from tasks.training.loop.contrast import Contrast, loss_of_pairs
from tasks.training.loop.fit import PLAIN, Group, fit
from tests.kit.killed import KilledAfter, KilledError

PAIR = Classes(("dark", "bright"))
NUM, MINIBATCH = 40, 20


class Net(nn.Module):
    """Eight numbers -> features, and logits of one target."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.top = nn.Sequential(nn.Linear(8, 6), nn.Tanh())
            self.heads = nn.ModuleList([nn.Linear(6, 2)])

    def forward(self, inputs, *, with_features=False, heads_apart=False):
        features = self.top(inputs)
        logits = [head(features.detach() if heads_apart else features) for head in self.heads]
        return [features, *logits] if with_features else logits


def samples(*, is_labelled=True):
    """Return inputs whose label is told by their first number."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 2, (NUM, 1), generator=generator).float()
    inputs = torch.randn(NUM, 8, generator=generator)
    inputs[:, :1] += 2 * labels
    if not is_labelled:
        labels = torch.full_like(labels, torch.nan)
    return inputs, labels


def minibatches(inputs, labels):
    return list(zip(inputs.split(MINIBATCH), labels.split(MINIBATCH), strict=True))


def train(*, keeper=None, is_labelled=True, **changes):
    model = Net()
    fit(
        model, replace(PLAIN, **{"epochs": 4} | changes), targets=[PAIR], seed=0,
        groups=[Group(parameters=list(model.parameters()), learning_rate=0.02)],
        minibatches=lambda epoch: minibatches(*samples(is_labelled=is_labelled)), num_minibatches=NUM // MINIBATCH,
        val_minibatches=lambda: minibatches(*samples()), contrast=Contrast(targets=[PAIR]), keeper=keeper,
    )  # fmt: skip
    return model


def content(model):
    return b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())


def test_loss_is_that_of_cosine_similarities_and_both_sorts_of_pairs_count_the_same():
    features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    classes = torch.tensor([0.0, 0.0, 1.0, 1.0])
    half = 1 / math.sqrt(2)
    same = (0 + (1 - half) ** 2) / 2  # the first two have one direction
    other = (0 + half**2 + 0 + half**2) / 4
    assert loss_of_pairs(features, classes).item() == pytest.approx((same + other) / 2)
    assert loss_of_pairs(features[:2], classes[:2]).item() == 0  # no pair of two classes
    assert loss_of_pairs(features[:1], classes[:1]).item() == 0


def test_training_draws_classes_together_and_apart():
    inputs, labels = samples()
    before, after = (loss_of_pairs(model.top(inputs), labels[:, 0]) for model in (Net(), train(epochs=30)))
    assert after.item() < before.item() / 2


def test_heads_learn_and_pull_at_no_feature():
    """Without a label there is no pair, and what the heads would pull at stays."""
    came, model = Net(), train(is_labelled=False)
    assert content(model) == content(came)
    trained = train(epochs=30)
    inputs, labels = samples()
    with torch.no_grad():
        right = [(each(inputs)[0].argmax(dim=1) == labels[:, 0]).float().mean() for each in (came, trained)]
    assert right[1] > max(right[0], 0.8)


def test_number_of_cores_changes_no_bit(monkeypatch):
    found = set()
    for cores in (1, 2, 5):
        monkeypatch.setattr(cores_module, "num_cores", lambda cores=cores: cores)
        found.add(content(train(averaging=0.9)))
    assert len(found) == 1


def test_shards_have_together_the_gradient_of_the_whole_minibatch(monkeypatch):
    shards = train(epochs=1)
    monkeypatch.setattr(loop, "one_core_each", lambda model, options: nullcontext())
    whole = train(epochs=1)
    for one, other in zip(shards.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_training_that_was_stopped_goes_on_to_the_same_bytes(tmp_path):
    with pytest.raises(KilledError):
        train(keeper=KilledAfter(tmp_path, recipe={}))
    assert content(train(keeper=Checkpoint(tmp_path, recipe={}))) == content(train())
