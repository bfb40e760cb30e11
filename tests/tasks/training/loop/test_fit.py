import logging
import math
import multiprocessing
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import torch
from torch import distributed, nn

from tasks.machine import cores as cores_module
from tasks.machine.peers import ALONE, peers_here
from tasks.targets.classes import Classes
from tasks.targets.number import Number
from tasks.training.finetuning.checkpoint import Checkpoint
from tasks.training.loop import fit as loop
from tasks.training.loop.dropout import Dropout
from tasks.training.loop.fit import PLAIN, Group, fit
from tasks.training.loop.losses import summed_losses
from tasks.training.loop.schedule import learning_rate_factor
from tasks.training.loop.scores import score
from tests.kit.killed import KilledAfter, KilledError
from tests.kit.programs import SECONDS

PAIR = Classes(("dark", "bright"))
MISSING = math.nan


class Net(nn.Module):
    """A picture of 4 px -> logits of one target (or two): convolution and normalisation, then a linear head."""

    def __init__(self, *, seed=0, num_targets=1, dropout=0.0, by_part=False):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
            self.dropout = Dropout(dropout) if by_part else nn.Dropout(dropout)
            self.heads = nn.ModuleList(nn.Linear(16, 2) for _ in range(num_targets))
        self.to(memory_format=torch.channels_last)

    def forward(self, images):
        features = self.dropout(self.body(images))
        return [head(features) for head in self.heads]


class Says(nn.Module):
    """Its logits are the same of every picture; they begin as `logits`."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, images):
        return [self.logits.expand(len(images), -1)]


class Reads(nn.Module):
    """Its logits are the picture's first numbers, times a weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return [images[:, 0, 0, :2] * self.weight]


def data(*, n=24, seed=0, minibatch=8):
    """Minibatches of pictures whose label is told by their brightness."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (n, 1), generator=generator).float()
    images = torch.randn(n, 3, 4, 4, generator=generator) + labels[:, :, None, None]
    return list(zip(images.split(minibatch), labels.split(minibatch), strict=True))


def wrong(minibatches):
    return [(images, 1 - labels) for images, labels in minibatches]


TRAIN, VAL = data(seed=1), data(n=120, seed=2)
STATISTICS = {"body.1.running_mean", "body.1.running_var", "body.1.num_batches_tracked"}
HEAD = {"heads.0.weight", "heads.0.bias"}


def train(
    model,
    *,
    groups=None,
    minibatches=None,
    num_minibatches=None,
    val=None,
    keeper=None,
    seed=0,
    is_bf16=False,
    lr=0.01,
    targets=(PAIR,),
    names=(),
    peers=ALONE,
    **changes,
):
    """Fit all of the model unless `groups` says what."""
    return fit(
        model,
        replace(PLAIN, **{"epochs": 3} | changes),
        targets=targets,
        names=names,
        seed=seed,
        is_bf16=is_bf16,
        groups=groups or [Group(parameters=list(model.parameters()), learning_rate=lr)],
        minibatches=minibatches or (lambda epoch: TRAIN),
        num_minibatches=num_minibatches or len(TRAIN),
        val_minibatches=val or (lambda: VAL),
        keeper=keeper,
        peers=peers,
    )


def only_head(model, **settings):
    return [Group(parameters=list(model.heads.parameters()), learning_rate=0.01, **settings)]


def copy_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def moved(model, before):
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def content(model):
    return b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())


def distance(one, other):
    return math.sqrt(sum(float((one[name] - other[name]).square().sum()) for name in one))


def trained_content(**settings):
    model = Net(dropout=settings.pop("dropout", 0.0), by_part=settings.pop("by_part", False))
    train(model, **settings)
    return content(model)


# what is frozen


def test_frozen_part_keeps_its_bytes_while_the_rest_moves():
    model = Net()
    before = copy_of(model)
    assert train(model, groups=only_head(model)).kept > 0
    assert moved(model, before) == HEAD


def test_statistics_of_normalisation_keep_their_bytes_while_all_parameters_move():
    model = Net()
    before = copy_of(model)
    assert train(model).kept > 0
    assert moved(model, before) == set(before) - STATISTICS


def test_statistics_follow_the_data_on_request():
    model = Net()
    before = copy_of(model)
    assert train(model, update_statistics=True).kept > 0
    assert moved(model, before) == set(before)


def test_statistics_of_a_frozen_part_keep_their_bytes_even_so():
    model = Net()
    before = copy_of(model)
    assert train(model, groups=only_head(model), update_statistics=True).kept > 0
    assert moved(model, before) == HEAD


def test_group_stands_still_before_its_epoch_and_moves_from_then_on():
    """Also the statistics of its normalisation, and whatever weight decay would do to it."""
    model = Net()
    body = Group(parameters=list(model.body.parameters()), learning_rate=0.01, weight_decay=0.1, from_epoch=3)
    seen = {}

    def minibatches(epoch):
        seen[epoch] = copy_of(model)
        return TRAIN

    groups = [*only_head(model), body]
    train(model, groups=groups, minibatches=minibatches, epochs=4, update_statistics=True, averaging=0.9)
    assert moved(model, seen[1]) == set(seen[1])
    one_to_two, one_to_three, three_to_four = (
        {name for name in seen[1] if not torch.equal(seen[start][name], seen[end][name])}
        for start, end in ((1, 2), (1, 3), (3, 4))
    )
    assert one_to_two == one_to_three == HEAD
    assert three_to_four == set(seen[1])


def test_dropout_of_a_frozen_part_is_off():
    """A body that is frozen gives the head the same of a picture each time."""

    class WithDropout(Net):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(*self.body, nn.Dropout(0.5))

    frozen, without = WithDropout(), Net()
    for model in (frozen, without):
        train(model, groups=only_head(model))
    assert all(map(torch.equal, frozen.heads.parameters(), without.heads.parameters()))


# how it learns


def test_training_lowers_the_loss():
    history = train(Net(), epochs=8)
    assert history.epochs[history.kept].val.loss < 0.8 * history.epochs[0].val.loss
    assert history.epochs[-1].train.loss < history.epochs[1].train.loss


def test_each_group_learns_at_its_own_rate():
    """With Adam, the first step of a parameter is as long as its rate."""
    model = Net()
    before = copy_of(model)
    groups = [
        Group(parameters=list(model.heads.parameters()), learning_rate=0.01),
        Group(parameters=list(model.body.parameters()), learning_rate=0.001),
    ]
    train(model, groups=groups, minibatches=lambda epoch: TRAIN[:1], num_minibatches=1, epochs=1)
    steps = {name: float((tensor - before[name]).abs().max()) for name, tensor in model.state_dict().items()}
    assert steps["heads.0.weight"] == pytest.approx(0.01, rel=0.01)
    assert steps["body.0.weight"] == pytest.approx(0.001, rel=0.01)


def test_rate_rises_over_the_warm_up_and_falls_as_a_cosine_whatever_the_epochs():
    """A weight whose gradient never changes moves by the current learning rate at each step of Adam."""
    model, places = Reads(), []
    images = torch.full((1, 1, 1, 2), 0.0)
    images[0, 0, 0, 0] = -100.0  # says the wrong class, with a gradient of 100 all along

    def minibatches(epoch):
        for _ in range(4):
            places.append(model.weight.item())
            yield images, torch.zeros(1, 1)

    train(
        model,
        minibatches=minibatches,
        num_minibatches=4,
        epochs=3,
        val=lambda: data(n=2),
        lr=0.01,
        warmup_fraction=0.25,
    )
    lengths = -np.diff(places)
    expected = [0.01 * learning_rate_factor(step, num_steps=12, warmup_fraction=0.25) for step in range(11)]
    assert lengths == pytest.approx(expected, rel=1e-3)


def test_decay_towards_zero_makes_weights_smaller_and_towards_the_start_keeps_them_near_it():
    def far(towards, decay):
        model = Net()
        start = copy_of(model)
        group = Group(parameters=list(model.parameters()), learning_rate=0.02, weight_decay=decay)
        # what is kept at the end is the last epoch: val is what it learns
        train(model, groups=[group], epochs=10, decay_towards=towards, val=lambda: TRAIN)
        zero = {name: torch.zeros_like(tensor) for name, tensor in start.items()}
        return distance(model.state_dict(), start), distance(model.state_dict(), zero)

    free, towards_start, towards_zero = far("start", 0.0), far("start", 3.0), far("zero", 3.0)
    assert towards_start[0] < 0.7 * free[0]
    assert towards_zero[1] < 0.9 * free[1]
    assert towards_start[0] < towards_zero[0]
    assert towards_zero[1] < towards_start[1]


def test_without_weight_decay_it_does_not_matter_what_it_would_pull_to():
    assert trained_content(decay_towards="start") == trained_content(decay_towards="zero")


def test_gradient_of_one_sample_in_many_that_is_far_too_large_is_clipped():
    """Two steps of SGD-like length: Adam forgets the scale of the first gradient unless the second is of another."""
    model, clipped = Reads(), Reads()
    small, large = (torch.tensor([[[[-scale, 0.0]]]]) for scale in (1.0, 1000.0))

    def minibatches(epoch):
        label = torch.zeros(1, 1)
        yield from ((images, label) for images in (small, large, small, small))

    for each, norm in ((model, None), (clipped, 0.1)):
        train(
            each,
            minibatches=minibatches,
            num_minibatches=4,
            epochs=1,
            val=lambda: [(large, torch.zeros(1, 1))],
            gradient_norm=norm,
        )
    assert model.weight.item() != clipped.weight.item()
    # all four gradients are clipped to the same length, so that all steps are full ones
    rates = [0.01 * learning_rate_factor(step, num_steps=4, warmup_fraction=0.0) for step in range(4)]
    assert 1 - clipped.weight.item() == pytest.approx(sum(rates), rel=1e-3)
    assert 1 - model.weight.item() < 0.95 * sum(rates)


def test_smoothed_labels_keep_a_model_from_being_sure():
    def surest(smoothing):
        model = Says(0.0, 0.0)
        minibatch = torch.zeros(8, 1, 1, 1), torch.zeros(8, 1)
        train(
            model,
            minibatches=lambda epoch: [minibatch] * 100,
            num_minibatches=100,
            val=lambda: [minibatch],
            epochs=1,
            lr=0.2,
            label_smoothing=smoothing,
        )
        return model.logits.softmax(dim=0)[0].item()

    assert surest(0.0) > 0.99
    assert surest(0.2) == pytest.approx(0.9, abs=0.01)


def test_mixup_teaches_both_labels_by_their_share():
    """A model that reads off whose picture it is: what it is shown is on the line between the two."""
    shown = []

    class Watches(Reads):
        def forward(self, images):
            if self.training:
                shown.append(images[:, 0, 0, 0].clone())
            return super().forward(images)

    images = torch.zeros(8, 1, 1, 2)
    images[:4, 0, 0, 0] = 1.0
    minibatch = [(images, torch.tensor([[0.0]] * 4 + [[1.0]] * 4))]
    train(
        Watches(), minibatches=lambda epoch: minibatch, num_minibatches=1, val=lambda: minibatch, epochs=20, mixup=1.0
    )
    assert all(each.sum().item() == pytest.approx(4.0, abs=1e-4) for each in shown)  # as much of each as before
    shares = torch.cat(shown)
    assert ((shares > 0.05) & (shares < 0.95)).any()
    assert len({round(float(each), 4) for each in shares}) > 6  # another share each time


def test_mixed_minibatch_has_the_loss_of_its_shares():
    """A loss that does not depend on the picture: it is that of the labels, whose numbers mixing does not change."""
    model, plain = Says(0.3, -0.2), Says(0.3, -0.2)
    minibatch = [(torch.zeros(8, 1, 1, 1), torch.tensor([[0.0]] * 6 + [[1.0]] * 2))]
    for each, mixup in ((model, 0.4), (plain, 0.0)):
        train(
            each, minibatches=lambda epoch: minibatch, num_minibatches=1, val=lambda: minibatch, epochs=5, mixup=mixup
        )
    torch.testing.assert_close(model.logits, plain.logits)


def test_mixup_follows_the_seed():
    assert trained_content(mixup=0.5, seed=1) == trained_content(mixup=0.5, seed=1)
    assert trained_content(mixup=0.5, seed=1) != trained_content(mixup=0.5, seed=2)
    assert trained_content(mixup=0.5) != trained_content()


def test_average_of_the_weights_is_what_is_scored_and_kept():
    model, places = Reads(), []
    images = torch.zeros(1, 1, 1, 2)
    images[0, 0, 0, 0] = 1.0
    minibatch = (images, torch.zeros(1, 1))

    def minibatches(epoch):
        for _ in range(6):
            yield minibatch
            places.append(model.weight.item())  # after the step

    history = train(
        model, minibatches=minibatches, num_minibatches=6, val=lambda: [minibatch], epochs=1, lr=0.1, averaging=0.6
    )
    expected = 1.0
    for step, place in enumerate(places, start=1):
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * place
    assert model.weight.item() == pytest.approx(expected, rel=1e-5)
    assert history.epochs[1].val == score(model, [minibatch], targets=[PAIR]).scores()
    assert model.weight.item() < places[-1]


def test_averaging_goes_on_from_the_weights_and_not_from_their_average():
    seen = {False: [], True: []}
    for is_averaged in seen:
        model = Net()

        def minibatches(epoch, model=model, found=seen[is_averaged]):
            found.append(content(model))
            return TRAIN

        train(model, minibatches=minibatches, averaging=0.9 if is_averaged else 0.0)
    assert seen[True] == seen[False]


# same bits


def test_same_seed_gives_the_same_bytes():
    assert trained_content(dropout=0.5, seed=1) == trained_content(dropout=0.5, seed=1)
    assert trained_content(dropout=0.5, seed=1) != trained_content(dropout=0.5, seed=2)


def test_training_does_not_touch_the_state_of_chance():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(Net(dropout=0.5))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_number_of_cores_changes_no_bit(monkeypatch, dropout):
    settings = {"num_minibatches": 2, "mixup": 0.2, "averaging": 0.9, "dropout": dropout, "by_part": True}
    train_on = data(n=100, seed=1, minibatch=50)  # 7 shards each, the last one shorter
    found = set()
    for cores in (1, 2, 5):
        monkeypatch.setattr(cores_module, "num_cores", lambda cores=cores: cores)
        found.add(trained_content(minibatches=lambda epoch: train_on, **settings))
    assert len(found) == 1


def test_layout_of_the_weights_in_memory_does_not_matter():
    """The fused optimizer reads weights and gradients as they lie."""
    models = [Net(), Net().to(memory_format=torch.contiguous_format)]
    for model in models:
        train(model, minibatches=lambda epoch: [(a.to(memory_format=torch.channels_last), b) for a, b in TRAIN])
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_parts_of_a_minibatch_have_together_the_gradient_of_the_whole(monkeypatch):
    """A minibatch with missing labels, so that the parts have unlike numbers of them."""
    images, labels = data(n=30, seed=1, minibatch=30)[0]
    labels = labels.masked_fill(torch.arange(30)[:, None] % 7 < 3, MISSING)
    shards, whole = Net(), Net()
    train(shards, minibatches=lambda epoch: [(images, labels)], num_minibatches=1)
    monkeypatch.setattr(loop, "one_core_each", lambda model, recipe: nullcontext())
    train(whole, minibatches=lambda epoch: [(images, labels)], num_minibatches=1)
    for one, other in zip(shards.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "update_statistics", "is_shared_out"),
    [
        ({}, False, True), ({"dropout": 0.5}, False, False), ({"dropout": 0.5, "by_part": True}, False, True),
        ({}, True, False),
    ],
)  # fmt: skip
def test_minibatch_is_shared_out_unless_torchs_chance_or_its_statistics_play_a_part(
    settings, update_statistics, is_shared_out
):
    sizes = []

    class Watches(Net):
        def forward(self, images):
            if self.training:
                sizes.append(len(images))
            return super().forward(images)

    one = data(n=20, minibatch=20)
    train(
        Watches(**settings),
        minibatches=lambda epoch: one,
        num_minibatches=1,
        epochs=1,
        update_statistics=update_statistics,
    )
    assert sorted(sizes, reverse=True) == ([8, 8, 4] if is_shared_out else [20])


# which epoch is kept


def learns_then_forgets(last_good, **settings):
    """The model, and the history of a training whose labels are wrong after an epoch."""
    model = Net()
    teach = wrong(TRAIN)
    return model, train(model, minibatches=lambda epoch: TRAIN if epoch <= last_good else teach, **settings)


def test_model_ends_as_it_was_in_the_epoch_kept():
    model, history = learns_then_forgets(3, epochs=8, lr=0.05)
    assert 0 < history.kept < 8
    assert history.epochs[8].val.loss > history.epochs[history.kept].val.loss
    assert score(model, VAL, targets=[PAIR]).scores() == history.epochs[history.kept].val


def test_model_that_was_best_as_it_came_is_given_back_untouched():
    model = Net()
    train(model, epochs=8)
    before = copy_of(model)
    history = train(
        model, minibatches=lambda epoch: wrong(TRAIN), epochs=2, lr=0.05, update_statistics=True, averaging=0.5
    )
    assert history.kept == 0
    assert len(history.epochs) == 3
    assert moved(model, before) == set()


def score_of_epochs(logits_by_epoch, *, labels, **settings):
    """A training in which the model's logits on val are set by hand: (n, 2) an epoch, from epoch 0 on."""
    epoch = iter(logits_by_epoch)

    def val():
        images = torch.zeros(len(labels), 1, 1, 2)
        images[:, 0, 0] = torch.as_tensor(next(epoch), dtype=torch.float32)
        return [(images, torch.as_tensor(labels, dtype=torch.float32)[:, None])]

    return train(Reads(), val=val, minibatches=lambda epoch: data(n=8), num_minibatches=1, lr=1e-12,
                 epochs=len(logits_by_epoch) - 1, **settings)  # fmt: skip


def logits_of(qualities, labels):
    """Return the logits of samples whose right class is ahead by this much."""
    labels = np.asarray(labels)
    logits = np.zeros((len(labels), 2))
    logits[np.arange(len(labels)), labels] = qualities
    return logits


LABELS = np.arange(200) % 2
NOISE = np.random.default_rng(0).normal(size=(6, 200))


def test_latest_epoch_that_is_as_good_as_the_best_by_all_that_val_tells_is_kept():
    best = 1.0 + NOISE[0]
    same = best + 0.1 * (NOISE[1] - NOISE[1].mean()) - 0.001  # worse on average, by far less than one standard error
    history = score_of_epochs([logits_of(each, LABELS) for each in (0.2 + NOISE[2], best, same)], labels=LABELS)
    assert history.epochs[2].val.loss > history.epochs[1].val.loss
    assert history.kept == 2


def test_later_epoch_that_is_worse_by_more_than_chance_is_not_kept():
    """The gain is smaller than the differences among samples: each sample's own difference counts."""
    best = 1.0 + NOISE[0]
    history = score_of_epochs([logits_of(each, LABELS) for each in (0.2 + NOISE[2], best, best - 0.2)], labels=LABELS)
    assert history.kept == 1


def test_epoch_that_is_surer_than_it_should_be_is_judged_by_what_it_tells_apart():
    """Ten times the logits, slightly better ones: a higher loss, until a temperature divides them."""
    first = 0.5 + NOISE[0]
    better = 10 * (0.8 + NOISE[0])
    history = score_of_epochs([logits_of(each, LABELS) for each in (first, better)], labels=LABELS)
    assert history.epochs[1].val.loss > history.epochs[0].val.loss
    assert history.kept == 1


def test_small_steps_down_do_not_add_up_to_an_epoch_that_is_worse():
    """Each is within one standard error of the one before, the last is not of the best."""
    best = 1.0 + NOISE[0]
    steps = [best - 0.15 * number + 0.5 * NOISE[1] * number for number in range(1, 6)]
    history = score_of_epochs([logits_of(each, LABELS) for each in (best, *steps)], labels=LABELS)
    assert history.kept < 5


def test_training_stops_when_val_has_not_improved_for_so_many_epochs():
    seen = []
    model = Net()
    train(model, epochs=8)

    def minibatches(epoch):
        seen.append(epoch)
        return wrong(TRAIN)

    history = train(model, minibatches=minibatches, epochs=9, patience_epochs=2, lr=0.05)
    assert (seen, history.kept, len(history.epochs)) == ([1, 2], 0, 3)
    assert history.ending == "val loss stopped falling"


def test_no_epochs_leave_the_model_with_its_scores():
    model = Net()
    before = copy_of(model)
    history = train(model, epochs=0)
    assert (history.kept, len(history.epochs), history.ending) == (0, 1, "every epoch was run")
    assert history.epochs[0].val == score(model, VAL, targets=[PAIR]).scores()
    assert moved(model, before) == set()


def test_epoch_0_has_no_training_scores():
    history = train(Net(), epochs=1)
    assert [each.epoch for each in history.epochs] == [0, 1]
    assert history.epochs[0].train is None
    assert history.epochs[1].train is not None


def test_model_is_ready_to_predict_after_training():
    model = Net()
    train(model, update_statistics=True)
    assert not any(part.training for part in model.modules())


# a loss that is not finite


def spoilt_from(epoch_of_nan, *, place=0):
    def minibatches(epoch):
        for number, (images, labels) in enumerate(TRAIN):
            yield images * math.nan if (epoch, number) == (epoch_of_nan, place) else images, labels

    return minibatches


@pytest.mark.parametrize("place", [0, 2])
def test_loss_that_is_no_number_ends_the_training_with_the_weights_kept_before(caplog, place):
    model, until_then = Net(), Net()
    with caplog.at_level(logging.WARNING, logger="graftline"):
        history = train(model, minibatches=spoilt_from(3, place=place), epochs=5, averaging=0.9)
    assert (
        "the loss was not finite in epoch 3: the weights of epoch 2 are kept; lower the learning rates" in caplog.text
    )
    assert history.ending == "the loss was not finite"
    assert (history.kept, len(history.epochs)) == (2, 3)
    seen = train(until_then, minibatches=spoilt_from(3), epochs=5, averaging=0.9)
    assert seen.epochs == history.epochs
    assert score(model, VAL, targets=[PAIR]).scores() == history.epochs[2].val
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


def test_first_epoch_that_is_not_finite_leaves_the_model_as_it_came():
    model = Net()
    before = copy_of(model)
    history = train(model, minibatches=spoilt_from(1, place=1), epochs=3, update_statistics=True)
    assert (history.kept, len(history.epochs), history.ending) == (0, 1, "the loss was not finite")
    assert moved(model, before) == set()


@pytest.mark.parametrize("lr", [1e3, 1e20])
def test_rate_that_is_far_too_high_does_no_harm(lr):
    """Whether it is the loss on train or that on val which is no number first."""
    model = Net()
    before = copy_of(model)
    history = train(model, epochs=4, lr=lr, gradient_norm=None)
    assert history.kept == 0
    assert moved(model, before) == set()


def test_weights_that_overflow_in_the_last_step_of_an_epoch_are_noticed_on_val():
    model = Net()
    before = copy_of(model)
    history = train(model, minibatches=lambda epoch: TRAIN[:1], num_minibatches=1, epochs=1, lr=1e36)
    assert (history.kept, history.ending) == (0, "the loss was not finite")
    assert moved(model, before) == set()


# stopped and gone on


EVERYTHING = {
    "averaging": 0.9, "mixup": 0.4, "dropout": 0.3, "label_smoothing": 0.1, "update_statistics": True, "epochs": 6,
    "decay_towards": "start", "warmup_fraction": 0.2,
}  # fmt: skip


def everything(keeper=None, *, minibatches=None, **changes):
    """A training with all that it can do, and what it gave."""
    settings = EVERYTHING | changes
    model = Net(dropout=settings.pop("dropout"), by_part=settings.pop("by_part", False))
    groups = [
        Group(parameters=list(model.heads.parameters()), learning_rate=0.02, weight_decay=0.1),
        Group(parameters=list(model.body.parameters()), learning_rate=0.01, weight_decay=0.1, from_epoch=3),
    ]
    history = train(model, groups=groups, keeper=keeper, minibatches=minibatches, **settings)
    return content(model), history


@pytest.mark.parametrize("epoch", [1, 2, 3, 6])
def test_training_that_was_stopped_goes_on_to_the_same_bytes(tmp_path, epoch):
    """Before and after the second group begins to move, and after the last epoch."""
    with pytest.raises(KilledError):
        everything(KilledAfter(tmp_path, recipe={}, epoch=epoch))
    seen = []

    def minibatches(number):
        seen.append(number)
        return TRAIN

    found = everything(Checkpoint(tmp_path, recipe={}), minibatches=minibatches)
    assert seen == list(range(epoch + 1, 7))
    assert found == everything()


def test_training_in_parts_goes_on_to_the_same_bytes(tmp_path):
    plain = {"by_part": True, "update_statistics": False}
    with pytest.raises(KilledError):
        everything(KilledAfter(tmp_path, recipe={}, epoch=4), **plain)
    assert everything(Checkpoint(tmp_path, recipe={}), **plain) == everything(**plain)


def test_training_may_be_stopped_after_every_epoch(tmp_path):
    for epoch in range(1, 7):
        with pytest.raises(KilledError):
            everything(KilledAfter(tmp_path, recipe={}, epoch=epoch))
    assert everything(Checkpoint(tmp_path, recipe={})) == everything()


def test_patience_remembers_what_was_before_the_stop(tmp_path):
    def forgetful(keeper=None):
        return learns_then_forgets(2, epochs=9, lr=0.05, patience_epochs=2, keeper=keeper)

    _, expected = forgetful()
    assert expected.ending == "val loss stopped falling"
    with pytest.raises(KilledError):
        forgetful(KilledAfter(tmp_path, recipe={}, epoch=expected.kept + 1))
    model, history = forgetful(Checkpoint(tmp_path, recipe={}))
    assert history == expected
    assert content(model) == content(forgetful()[0])


# losses and scores


def test_missing_label_does_not_count_in_the_loss():
    logits = torch.tensor([[2.0, 0.0], [5.0, -5.0], [0.0, 1.0]])
    [found] = summed_losses([PAIR], [logits], torch.tensor([[0], [MISSING], [0]]))
    assert found.item() == pytest.approx(math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1)), rel=1e-5)


def test_loss_of_each_target_is_summed_over_its_own_labels():
    even = torch.zeros(2, 2)
    sure = torch.tensor([[0.0, 100.0], [0.0, 100.0]])
    labels = torch.tensor([[0, 0], [0, MISSING]])
    found = summed_losses([PAIR, PAIR], [even, sure], labels)
    assert found.tolist() == pytest.approx([math.log(2) * 2, 100.0], rel=1e-5)


def test_smoothed_label_is_shared_among_all_classes():
    logits = torch.tensor([[3.0, 0.0, 0.0, 0.0]])
    likely, unlikely = (math.log(math.exp(3) + 3) - logit for logit in (3.0, 0.0))
    [smoothed] = summed_losses([Classes(tuple("abcd"))], [logits], torch.tensor([[0.0]]), label_smoothing=0.2)
    assert smoothed.item() == pytest.approx(0.85 * likely + 0.15 * unlikely, rel=1e-5)


def test_minibatch_without_any_label_changes_nothing():
    model = Net()
    before = copy_of(model)
    nothing = [(images, torch.full_like(labels, MISSING)) for images, labels in TRAIN]
    train(model, minibatches=lambda epoch: nothing)
    assert moved(model, before) == set()


def test_two_targets_with_missing_labels_are_learned_together():
    model = Net(num_targets=2)

    def both(minibatches):
        return [
            (
                images,
                torch.cat(
                    [labels, (1 - labels).masked_fill(torch.arange(len(labels))[:, None] % 2 == 0, MISSING)], dim=1
                ),
            )
            for images, labels in minibatches
        ]

    history = train(
        model, targets=(PAIR, PAIR), minibatches=lambda epoch: both(TRAIN), val=lambda: both(VAL), epochs=25
    )
    assert history.epochs[history.kept].val.accuracy > 0.8


def test_missing_label_does_not_count_in_the_scores():
    images = torch.zeros(4, 1, 1, 2)
    images[:, 0, 0, 0] = 1.0  # says class 0
    labels = torch.tensor([[0], [1], [MISSING], [MISSING]])
    found = score(Reads(), [(images, labels)], targets=[PAIR]).scores()
    assert found.accuracy == 0.5
    assert found.loss == pytest.approx(math.log(1 + math.exp(-1)) + 0.5)


def test_scores_weigh_every_sample_alike_whatever_its_minibatch():
    images = torch.randn(5, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0.0], [1.0], [0.0], [1.0], [1.0]])
    whole = score(Reads(), [(images, labels)], targets=[PAIR]).scores()
    parts = score(Reads(), [(images[:4], labels[:4]), (images[4:], labels[4:])], targets=[PAIR]).scores()
    assert parts == whole


# several targets


ANGLE = Number(measure="degrees", centre=100.0, scale=50.0)
CLASS_AND_ANGLE = {"targets": (PAIR, ANGLE), "names": ("shade", "angle")}


class TwoHeads(Net):
    """A class and a number of a picture."""

    def __init__(self, **settings):
        super().__init__(**settings)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.heads = nn.ModuleList([nn.Linear(16, 2), nn.Linear(16, 1)])


def with_angles(minibatches, *, missing=(), noise=0.0):
    """Add a number that follows the brightness, and random labels instead where `noise` is 1."""
    chance = torch.Generator().manual_seed(5)
    added = []
    for images, labels in minibatches:
        angles = 100 + 50 * (images.mean(dim=(1, 2, 3))[:, None] - 0.5)
        angles = (1 - noise) * angles + noise * (100 + 50 * torch.randn(len(labels), 1, generator=chance))
        both = torch.cat([labels, angles], dim=1)
        both[:, missing] = MISSING
        added.append((images, both))
    return added


def train_both(model, *, missing=(), noise=0.0, **settings):
    return train(
        model, minibatches=lambda epoch: with_angles(TRAIN, missing=missing, noise=noise),
        val=lambda: with_angles(VAL, missing=missing, noise=noise), **CLASS_AND_ANGLE | settings,
    )  # fmt: skip


class Remembers(Checkpoint):
    """Keeps the training, and remembers the logarithms of the variances after each epoch."""

    def __init__(self, folder):
        super().__init__(folder, recipe={})
        self.seen = []

    def save(self, tensors, *, facts):
        super().save(tensors, facts=facts)
        self.seen.append(tensors["log_variances"].detach().clone())


def test_class_and_number_are_learned_together_and_each_has_a_measure_of_its_own(caplog):
    with caplog.at_level(logging.INFO, logger="graftline"):
        history = train_both(TwoHeads(), epochs=15, lr=0.02)
    first, last = (epoch.val.of_targets for epoch in (history.epochs[0], history.epochs[history.kept]))
    assert last[0].accuracy > 0.8
    assert last[1].error < 0.6 * first[1].error
    assert f"val loss {history.epochs[1].val.loss:.4f} (shade accuracy " in caplog.text
    assert ", angle error " in caplog.text
    assert "(degrees))" in caplog.text


def test_target_without_any_label_changes_no_bit_of_the_others():
    alone, beside = Net(), TwoHeads()
    beside.heads[0].load_state_dict(alone.heads[0].state_dict())
    train(alone)
    train_both(beside, missing=[1])
    assert all(map(torch.equal, alone.body.parameters(), beside.body.parameters()))
    assert all(map(torch.equal, alone.heads[0].parameters(), beside.heads[0].parameters()))


def test_missing_labels_of_one_target_leave_the_weight_of_the_others():
    """The number of labels of one target does not change the loss of another."""
    torch.manual_seed(0)
    logits = [torch.randn(8, 2, requires_grad=True), torch.randn(8, 1, requires_grad=True)]

    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.shades, self.angles = (nn.Parameter(own.detach().clone()) for own in logits)

        def forward(self, images):
            return [self.shades, self.angles]

    moves = []
    for num_missing in (0, 6):
        labels = torch.cat([torch.tensor([[0.0], [1.0]] * 4), 100 + 50 * torch.randn(8, 1)], dim=1)
        labels[:num_missing, 1] = MISSING
        model = Fixed()
        shown = [(torch.zeros(8, 1), labels)]
        # without Adam's scaling, the length of the step would be that of the gradient; its first step has its sign
        state = loop._State(
            model, replace(PLAIN, epochs=1, gradient_norm=None),
            [Group(parameters=list(model.parameters()), learning_rate=0.01)],
            targets=(PAIR, ANGLE), seed=0, is_bf16=False, pool=None,
        )  # fmt: skip
        state.train(shown[0], num_steps=1, total=loop.Total((PAIR, ANGLE)))
        moves.append(model.shades.grad.clone())
    assert torch.equal(*moves)


def test_target_whose_labels_are_noise_comes_to_weigh_less(tmp_path):
    seen = {}
    for noise in (0.0, 1.0):
        keeper = Remembers(tmp_path / str(noise))
        train_both(TwoHeads(), noise=noise, epochs=8, lr=0.05, balance="uncertainty", keeper=keeper)
        seen[noise] = torch.stack(keeper.seen)
    assert seen[1.0][-1, 1] > seen[0.0][-1, 1] + 0.05  # the second is the angle's
    assert (seen[0.0].diff(dim=0) != 0).all()


def test_balance_changes_nothing_where_there_is_one_target():
    assert trained_content(balance="uncertainty") == trained_content()


@pytest.mark.parametrize("balance", ["equal", "uncertainty"])
def test_training_of_several_targets_that_was_stopped_goes_on_to_the_same_bytes(tmp_path, balance):
    def tuned(keeper=None):
        model = TwoHeads()
        history = train_both(model, epochs=5, balance=balance, averaging=0.5, mixup=0.3, keeper=keeper)
        return content(model), history

    with pytest.raises(KilledError):
        tuned(KilledAfter(tmp_path, recipe={}, epoch=2))
    assert tuned(Checkpoint(tmp_path, recipe={})) == tuned()


def test_epoch_is_chosen_by_targets_not_by_their_numbers_of_labels():
    """A target with a tenth of the labels counts as much as the other."""
    total = loop.Total((PAIR, PAIR))
    labels = torch.tensor([[0.0, 1.0], [1.0, 0.0]] * 10)
    labels[2:, 1] = MISSING
    total.add([torch.zeros(20, 2), torch.zeros(20, 2)], labels)
    losses = total.calibrated_losses()
    assert losses[:20].sum() == pytest.approx(losses[20:].sum())
    assert losses.mean() == pytest.approx(math.log(2))


# several processes


SETTINGS = {"plain": {}, "balanced": {"balance": "uncertainty", "averaging": 0.9}}


def train_own_halves(rank, group, answer):
    """Train with all settings in one of two processes, on half of each minibatch."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=group, rank=rank, world_size=2, timeout=timedelta(seconds=SECONDS)
    )
    peers = peers_here()

    def own(minibatches):
        return [tuple(torch.from_numpy(peers.share(part.numpy())) for part in parts) for parts in minibatches]

    trained = {}
    for name, settings in SETTINGS.items():
        model = Net(num_targets=2)
        history = train(
            model, minibatches=lambda epoch: own(two_labels(TRAIN)), val=lambda: own(two_labels(VAL)), peers=peers,
            targets=(PAIR, PAIR), num_minibatches=len(TRAIN), **settings,
        )  # fmt: skip
        trained[name] = content(model), [(epoch.train, epoch.val) for epoch in history.epochs]
    answer.send(trained)


def two_labels(minibatches):
    """The labels for two targets; every third of the second target is missing."""
    made = []
    for images, labels in minibatches:
        second = 1 - labels
        second[::3] = MISSING
        made.append((images, torch.cat([labels, second], dim=1)))
    return made


def train_both_halves(group, answers):
    """Train one half in this process and the other in a fork of it, which need not import torch again."""
    context = multiprocessing.get_context("fork")
    other = context.Process(target=train_own_halves, args=(1, group, answers[1]), daemon=True)
    other.start()
    train_own_halves(0, group, answers[0])
    other.join(SECONDS)


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Return what each of two processes trained."""
    group = f"file://{tmp_path_factory.mktemp('group')}/group"
    context = multiprocessing.get_context("spawn")  # torch's threads do not outlive a fork
    readers, writers = zip(*(context.Pipe(duplex=False) for _ in range(2)), strict=True)
    process = context.Process(target=train_both_halves, args=(group, writers))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        process.start()
    for writer in writers:
        writer.close()  # so that the end of the processes is the end of their answers
    answers = []
    for reader in readers:
        assert reader.poll(SECONDS)
        answers.append(reader.recv())
    process.join(SECONDS)
    return answers


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_with_half_of_each_minibatch_train_as_one(halves, name):
    (weights, epochs), (others, seen) = (trained[name] for trained in halves)
    assert weights == others  # to the bit: each has the same sums
    assert epochs == seen
    model = Net(num_targets=2)
    history = train(
        model, minibatches=lambda epoch: two_labels(TRAIN), val=lambda: two_labels(VAL), targets=(PAIR, PAIR),
        **SETTINGS[name],
    )  # fmt: skip
    assert np.frombuffer(weights[:400], np.float32) == pytest.approx(
        np.frombuffer(content(model)[:400], np.float32), abs=1e-4
    )
    for (_, val), epoch in zip(epochs, history.epochs, strict=True):
        assert val.loss == pytest.approx(epoch.val.loss, abs=1e-5)
