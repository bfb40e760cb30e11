import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from tasks.data.manifest import MISSING
from tasks.training.loop import cross_entropy, fit, learning_rate_factor, score


class Net(nn.Module):
    """A picture of 4 px -> logits of one target (or two): convolution and normalisation, then a linear head."""

    def __init__(self, *, seed=0, num_targets=1, dropout=0.0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
            self.dropout = nn.Dropout(dropout)
            self.heads = nn.ModuleList(nn.Linear(16, 2) for _ in range(num_targets))

    def forward(self, images):
        features = self.dropout(self.body(images))
        return [head(features) for head in self.heads]


def data(*, n=24, seed=0, minibatch=8):
    """Minibatches of pictures whose label is told by their brightness."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (n, 1), generator=generator)
    images = torch.randn(n, 3, 4, 4, generator=generator) + labels[:, :, None, None]
    return list(zip(images.split(minibatch), labels.split(minibatch), strict=True))


TRAIN, VAL = data(seed=1), data(seed=2)
STATISTICS = {"body.1.running_mean", "body.1.running_var", "body.1.num_batches_tracked"}


def train(model, *, groups=None, minibatches=None, val=None, epochs=3, lr=0.01, **changes):
    settings = {"warmup_fraction": 0.1, "weight_decay": 0.01, "patience_epochs": 10, "update_statistics": False}
    return fit(
        model,
        minibatches=minibatches or (lambda epoch: TRAIN),
        num_minibatches=len(TRAIN),
        val_minibatches=val or (lambda: VAL),
        parameter_groups=groups or [{"params": list(model.parameters()), "lr": lr}],
        epochs=epochs,
        **settings | changes,
    )


def copy_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def moved(model, before):
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def test_frozen_part_keeps_its_bytes_while_the_rest_moves():
    model = Net()
    model.body.requires_grad_(False)
    before = copy_of(model)
    _, best = train(model, groups=[{"params": list(model.heads.parameters()), "lr": 0.01}])
    assert best > 0
    assert moved(model, before) == {"heads.0.weight", "heads.0.bias"}


def test_statistics_of_normalisation_keep_their_bytes_while_all_parameters_move():
    model = Net()
    before = copy_of(model)
    _, best = train(model, update_statistics=False)
    assert best > 0
    assert moved(model, before) == set(before) - STATISTICS


def test_statistics_follow_the_data_on_request():
    model = Net()
    before = copy_of(model)
    _, best = train(model, update_statistics=True)
    assert best > 0
    assert moved(model, before) == set(before)


def test_statistics_of_a_frozen_part_keep_their_bytes_even_so():
    model = Net()
    model.body.requires_grad_(False)
    before = copy_of(model)
    _, best = train(model, groups=[{"params": list(model.heads.parameters()), "lr": 0.01}], update_statistics=True)
    assert best > 0
    assert moved(model, before) == {"heads.0.weight", "heads.0.bias"}


def test_each_group_learns_at_its_own_rate():
    model = Net()
    before = copy_of(model)
    groups = [
        {"params": list(model.heads.parameters()), "lr": 0.01},
        {"params": list(model.body.parameters()), "lr": 0.0},
    ]
    train(model, groups=groups)
    assert moved(model, before) == {"heads.0.weight", "heads.0.bias"}


def test_training_lowers_the_loss():
    history, best = train(Net(), epochs=8)
    assert history[best].val.loss < 0.8 * history[0].val.loss
    assert history[-1].train.loss < history[1].train.loss


def test_model_ends_as_it_was_in_its_best_epoch():
    """Later epochs teach the wrong labels, so that val gets worse."""
    model = Net()
    wrong = [(images, 1 - labels) for images, labels in TRAIN]
    history, best = train(model, minibatches=lambda epoch: TRAIN if epoch <= 2 else wrong, epochs=6, lr=0.03)
    assert 0 < best < 6
    assert history[6].val.loss > history[best].val.loss
    assert score(model, VAL) == history[best].val


def test_model_that_was_best_as_it_came_is_given_back_untouched():
    model = Net()
    train(model, epochs=8)
    before = copy_of(model)
    wrong = [(images, 1 - labels) for images, labels in TRAIN]
    history, best = train(model, minibatches=lambda epoch: wrong, epochs=2)
    assert best == 0
    assert len(history) == 3
    assert moved(model, before) == set()


def test_training_stops_when_val_has_not_improved_for_so_many_epochs():
    model = Net()
    train(model, epochs=8)
    wrong = [(images, 1 - labels) for images, labels in TRAIN]
    seen = []

    def minibatches(epoch):
        seen.append(epoch)
        return wrong

    history, best = train(model, minibatches=minibatches, epochs=9, patience_epochs=2)
    assert (seen, best, len(history)) == ([1, 2], 0, 3)


def test_no_epochs_leave_the_model_with_its_scores():
    model = Net()
    before = copy_of(model)
    history, best = train(model, epochs=0)
    assert (best, len(history)) == (0, 1)
    assert history[0].val == score(model, VAL)
    assert moved(model, before) == set()


def test_loss_that_is_no_number_is_refused_with_the_remedy():
    spoilt = [(images * math.nan, labels) for images, labels in TRAIN]
    with pytest.raises(ValueError, match="the training loss is nan in epoch 1: lower finetune's learning rates"):
        train(Net(), minibatches=lambda epoch: spoilt)


def test_model_is_ready_to_predict_after_training():
    model = Net()
    train(model, update_statistics=True)
    assert not any(part.training for part in model.modules())


def test_same_seed_gives_the_same_bytes():
    def trained(seed):
        model = Net(dropout=0.5)
        torch.manual_seed(seed)
        train(model, update_statistics=True, epochs=2)
        return b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())

    assert trained(1) == trained(1)
    assert trained(1) != trained(2)


def test_epoch_0_has_no_training_scores():
    history, _ = train(Net(), epochs=1)
    assert [each.epoch for each in history] == [0, 1]
    assert history[0].train is None
    assert history[1].train is not None


def test_missing_label_does_not_count_in_the_loss():
    logits = torch.tensor([[2.0, 0.0], [5.0, -5.0], [0.0, 1.0]])
    with_missing = cross_entropy([logits], torch.tensor([[0], [MISSING], [0]]))
    without = cross_entropy([logits[[0, 2]]], torch.tensor([[0], [0]]))
    torch.testing.assert_close(with_missing, without)
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1))) / 2
    assert with_missing.item() == pytest.approx(expected, rel=1e-5)


def test_loss_is_the_mean_over_all_labels_of_all_targets():
    even = torch.zeros(2, 2)
    sure = torch.tensor([[0.0, 100.0], [0.0, 100.0]])
    labels = torch.tensor([[0, 1], [0, MISSING]])
    assert cross_entropy([even, sure], labels).item() == pytest.approx(math.log(2) * 2 / 3, rel=1e-5)


def test_smoothed_label_is_shared_among_all_classes():
    logits = torch.tensor([[3.0, 0.0, 0.0, 0.0]])
    likely, unlikely = (math.log(math.exp(3) + 3) - logit for logit in (3.0, 0.0))
    smoothed = cross_entropy([logits], torch.tensor([[0]]), label_smoothing=0.2)
    assert smoothed.item() == pytest.approx(0.85 * likely + 0.15 * unlikely, rel=1e-5)


def test_minibatch_without_any_label_has_no_loss():
    assert cross_entropy([torch.ones(2, 2)], torch.full((2, 1), MISSING)).item() == 0.0


class Says(nn.Module):
    """Its logits are the picture's first numbers."""

    def forward(self, images):
        return [images[:, 0, 0, :2]]


def test_missing_label_does_not_count_in_the_accuracy():
    images = torch.zeros(4, 1, 1, 2)
    images[:, 0, 0, 0] = 1.0  # says class 0
    labels = torch.tensor([[0], [1], [MISSING], [MISSING]])
    assert score(Says(), [(images, labels)]).accuracy == 0.5


def test_scores_weigh_every_sample_alike_whatever_its_minibatch():
    images = torch.randn(5, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0], [1], [0], [1], [1]])
    whole = score(Says(), [(images, labels)])
    parts = score(Says(), [(images[:4], labels[:4]), (images[4:], labels[4:])])
    assert parts.accuracy == whole.accuracy
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)


def test_learning_rate_rises_then_falls_to_nothing():
    factors = [learning_rate_factor(step, num_steps=100, warmup_fraction=0.2) for step in range(101)]
    assert 0 < factors[0] < 0.1
    assert all(one < other for one, other in pairwise(factors[:21]))
    assert factors[20] == 1.0
    assert all(one > other for one, other in pairwise(factors[20:]))
    assert factors[60] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0)


def test_learning_rate_without_warm_up_starts_in_full():
    assert learning_rate_factor(0, num_steps=10, warmup_fraction=0.0) == 1.0


def test_learning_rate_with_nothing_but_warm_up_only_rises():
    factors = [learning_rate_factor(step, num_steps=10, warmup_fraction=1.0) for step in range(11)]
    assert all(one < other for one, other in pairwise(factors))
    assert max(factors) == 1.0
