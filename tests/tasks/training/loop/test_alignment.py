"""A term of two whole minibatches beside the loss, in the training loop."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tasks.machine import cores as cores_module
from tasks.targets.classes import Classes
from tasks.training.alignment.discrepancy import discrepancy_of
from tasks.training.finetuning.checkpoint import Checkpoint
from tasks.training.loop import fit as loop
from tasks.training.loop.alignment import Alignment
from tasks.training.loop.fit import PLAIN, Group, fit
from tests.kit.killed import KilledAfter, KilledError

PAIR = Classes(("dark", "bright"))
DIM, NUM, MINIBATCH = 6, 40, 20
KINDS = ["coral", "mmd", "dann"]


class Net(nn.Module):
    """Eight numbers -> features, and logits of one target."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.top = nn.Sequential(nn.Linear(8, DIM), nn.Tanh())
            self.heads = nn.ModuleList([nn.Linear(DIM, 2)])

    def forward(self, inputs, *, with_features=False):
        features = self.top(inputs)
        logits = [head(features) for head in self.heads]
        return [features, *logits] if with_features else logits


def drawn(*, seed, shift=0.0):
    """Return inputs whose label is told by their first number; a shift moves the others."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (NUM, 1), generator=generator).float()
    inputs = torch.randn(NUM, 8, generator=generator)
    inputs[:, :1] += 2 * labels
    inputs[:, 1:] += shift
    return inputs, labels


SOURCE, TARGET = drawn(seed=1), drawn(seed=2, shift=1.5)


def minibatches(inputs, labels):
    return list(zip(inputs.split(MINIBATCH), labels.split(MINIBATCH), strict=True))


def beside(epoch, *, is_source=None):
    inputs, labels = TARGET
    order = torch.randperm(NUM, generator=torch.Generator().manual_seed(epoch))
    others = minibatches(inputs[order], torch.full_like(labels, torch.nan))
    return [(other, np.ones(MINIBATCH, bool) if is_source is None else is_source) for other in others]


def aligned(kind, *, weight=1.0, unlabelled=beside):
    term = discrepancy_of(kind, DIM, torch.Generator().manual_seed(0)) if isinstance(kind, str) else kind
    return Alignment(term=term, weight=weight, learning_rate=0.01, minibatches=unlabelled)


def train(alignment, *, keeper=None, **changes):
    """Return the model after a training that val keeps to its end."""
    model = Net()
    fit(
        model, replace(PLAIN, **{"epochs": 4} | changes), targets=[PAIR], seed=0,
        groups=[Group(parameters=list(model.parameters()), learning_rate=0.02)],
        minibatches=lambda epoch: minibatches(*SOURCE), num_minibatches=NUM // MINIBATCH,
        val_minibatches=lambda: minibatches(*SOURCE), alignment=alignment, keeper=keeper,
    )  # fmt: skip
    return model


def content(model):
    return b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())


class Watches(nn.Module):
    """Records the features that it is given, and pulls nowhere."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, ours, theirs, progress):
        self.seen.append((len(ours), len(theirs), progress))
        return 0 * ours.sum()


def test_term_sees_both_minibatches_whole_and_how_far_the_training_is():
    watches = Watches()
    model = train(aligned(watches))
    assert watches.seen == [(MINIBATCH, MINIBATCH, step / 8) for step in range(8)]
    assert content(model) == content(train(None))  # unlabelled samples teach nothing but by the term


def test_labelled_samples_of_the_target_domain_are_on_no_side_of_the_term_for_sources():
    watches = Watches()
    is_source = np.arange(MINIBATCH) % 4 > 0
    train(aligned(watches, unlabelled=lambda epoch: beside(epoch, is_source=is_source)))
    assert {sizes[:2] for sizes in watches.seen} == {(15, MINIBATCH)}


def test_minibatch_with_fewer_than_two_samples_of_sources_is_not_aligned():
    one = np.arange(MINIBATCH) == 3
    for kind in KINDS:
        model = train(aligned(kind, unlabelled=lambda epoch: beside(epoch, is_source=one)))
        assert content(model) == content(train(None))


@pytest.mark.parametrize("kind", KINDS)
def test_number_of_cores_changes_no_bit(monkeypatch, kind):
    found = set()
    for cores in (1, 2, 5):
        monkeypatch.setattr(cores_module, "num_cores", lambda cores=cores: cores)
        found.add(content(train(aligned(kind), averaging=0.9)))
    assert len(found) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_shards_have_together_the_gradient_of_the_whole_minibatches(monkeypatch, kind):
    """20 and 20 samples in three shards each, against one of each."""
    shards = train(aligned(kind), epochs=1)
    monkeypatch.setattr(loop, "one_core_each", lambda model, options: nullcontext())
    whole = train(aligned(kind), epochs=1)
    for one, other in zip(shards.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("kind", "weight", "epochs"), [("coral", 3.0, 30), ("mmd", 3.0, 30), ("dann", 0.3, 150)])
def test_alignment_brings_the_domains_together(kind, weight, epochs):
    """Measured by how far their mean features are apart, in deviations, or of coral their covariances."""

    def distance(model):
        with torch.no_grad():
            ours, theirs = (model.top(inputs) for inputs, _ in (SOURCE, TARGET))
            if kind == "coral":
                return float((torch.cov(ours.T) - torch.cov(theirs.T)).norm() / torch.cov(ours.T).norm())
            return float((ours.mean(dim=0) - theirs.mean(dim=0)).norm() / ours.std(dim=0).norm())

    assert distance(train(aligned(kind, weight=weight), epochs=epochs)) < 0.8 * distance(train(None, epochs=epochs))


@pytest.mark.parametrize("kind", KINDS)
def test_training_that_was_stopped_goes_on_to_the_same_bytes(tmp_path, kind):
    """The adversary of dann and its optimiser's state included."""
    with pytest.raises(KilledError):
        train(aligned(kind), keeper=KilledAfter(tmp_path, recipe={}), averaging=0.9)
    resumed = train(aligned(kind), keeper=Checkpoint(tmp_path, recipe={}), averaging=0.9)
    assert content(resumed) == content(train(aligned(kind), averaging=0.9))


def test_state_of_a_training_without_alignment_has_no_key_of_one(tmp_path):
    train(None, keeper=Checkpoint(tmp_path, recipe={}))
    tensors, _ = Checkpoint(tmp_path, recipe={}).load()
    assert not [name for name in tensors if "alignment" in name]
