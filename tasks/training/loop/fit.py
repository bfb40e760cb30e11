"""The one training loop: a model and minibatches in; the model with its best weights, and the scores, out."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import repeat
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from tasks.machine.cores import core_pool, to_device
from tasks.machine.peers import ALONE, Peers
from tasks.targets.target import Target
from tasks.training.loop.alignment import Alignment, Unlabelled
from tasks.training.loop.contrast import Contrast
from tasks.training.loop.dropout import chance_of
from tasks.training.loop.losses import Uncertainty, label_counts, summed_losses
from tasks.training.loop.options import FitOptions
from tasks.training.loop.schedule import learning_rate_factor
from tasks.training.loop.scores import Inputs, Minibatch, OfTarget, Scores, Total, forward, score

logger = logging.getLogger("graftline")

ROUNDING = 1e-6  # nats of val loss by which equal epochs may differ: a temperature is found to about so much

Pool = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]  # a `map` over threads
Ending = Literal["every epoch was run", "val loss stopped falling", "the loss was not finite"]

Normalisation = nn.modules.batchnorm._BatchNorm

EPOCHS_OF_SEED = 100_003  # so that no two seeds share one
SEEDS_OF_RANK = 2**50  # so that no two processes share one
# samples of a minibatch that a core computes alone: several cores that share a small layer wait for each other
SHARD_SIZE = 8
PLAIN = FitOptions(
    epochs=None, warmup_fraction=0.0, decay_towards="zero", label_smoothing=0.0, mixup=0.0, averaging=0.0,
    gradient_norm=1.0, patience_epochs=None, balance="equal", update_statistics=False,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Group:
    """Parameters that are trained alike from an epoch on; before it they are frozen."""

    parameters: Sequence[nn.Parameter]
    learning_rate: float  # its highest
    weight_decay: float = 0.0
    from_epoch: int = 1


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """The scores of an epoch. Epoch 0 is the model as it came, without training scores."""

    epoch: int
    train: Scores | None
    val: Scores
    val_calibrated_loss: float  # in nats, with the temperatures that fit val best; it chooses the epoch to keep


@dataclass(kw_only=True)
class History:
    """The epochs, the number of the one whose weights the model has now, and why training ended.

    `kept_on_val` are the answers of that epoch to val; None where an earlier run has trained it.
    """

    epochs: list[Epoch] = field(default_factory=list)
    kept: int = 0
    kept_on_val: Total | None = field(default=None, compare=False)
    ending: Ending = "every epoch was run"


class Shard(NamedTuple):
    """A part of a minibatch: inputs, labels, the labels mixed in, and the share of the former labels."""

    inputs: Inputs
    labels: Tensor
    other: Tensor
    share: float


class Passed(NamedTuple):
    """The result of a shard's forward pass: its part of the loss, its logits, and its features where they are compared.

    All of them carry gradients.
    """

    loss: Tensor
    logits: list[Tensor]
    features: Tensor | None  # (n, dim) float32


@runtime_checkable
class Prepares(Protocol):
    """A layer that computes once a minibatch what all its parts need."""

    def prepare(self) -> None: ...


class Keeper(Protocol):
    """Keeps the state of a training; see `tasks.training.finetuning.checkpoint`."""

    def save(self, tensors: dict[str, Tensor], *, facts: dict[str, Any]) -> None: ...
    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None: ...


def fit(
    model: nn.Module,
    options: FitOptions,
    *,
    targets: Sequence[Target],
    names: Sequence[str] = (),
    seed: int,
    is_bf16: bool = False,
    groups: Sequence[Group],
    minibatches: Callable[[int], Iterable[Minibatch]],
    num_minibatches: int,
    val_minibatches: Callable[[], Iterable[Minibatch]],
    start: Total | None = None,
    alignment: Alignment | None = None,
    contrast: Contrast | None = None,
    keeper: Keeper | None = None,
    peers: Peers = ALONE,
    shard_size: int = SHARD_SIZE,
    show: Callable[[Iterable[Minibatch], int], Iterator[Minibatch]] = lambda items, epoch: iter(items),
) -> History:
    """Train with AdamW (Loshchilov & Hutter 2019) under a linear warm-up and a cosine to zero, and keep one epoch.

    The latest epoch whose val loss, calibrated by a temperature, is within one standard error (paired, over the labels)
    of the lowest is kept; each of several targets counts the same. Differences within that error are chance, and a
    later epoch has a lower learning rate (after the rule of Breiman et al. 1984). The model as it came counts as epoch
    0, so that training never ends in a model that is clearly worse on val. Training stops early on val loss, and at a
    loss that is not finite; then the epoch kept before stays.

    Args:
        model: maps inputs to logits, a tensor (n, num_outputs) a target.
        options: with a number of epochs and a mixup, see `tasks.training.loop.schedule.for_samples`.
        names: those of several targets, for the log.
        is_bf16: whether matrix products are in bfloat16, everything else in float32 (autocast).
        groups: the parameters to train, those of the heads first; all others of the model are frozen. Parameters that
            the model lacks are left alone.
        minibatches: the number of an epoch -> its minibatches, always the same.
        start: what the model as it came scored on val, where it was asked already.
        alignment: a term over whole minibatches, beside the loss. Its model takes `with_features`, and then returns the
            features before the logits.
        contrast: a loss of the features, without an alignment. The heads learn from their own loss, which pulls at no
            feature: the model takes `heads_apart`, too.
        keeper: keeps the state of the training after every epoch. A training whose state it has resumes from there, to
            the same bytes as if it had never stopped.
        peers: the processes that train together. Each has its own part of every minibatch, and of val; they exchange
            sums of gradients, and their scores. Mixup and dropout draw differently in each of them. An alignment or a
            contrast, which compares whole minibatches, is for one process.
        shard_size: how many samples of a minibatch a core computes at once.
        show: wraps the minibatches of an epoch, to show progress.
    """
    epochs = options.epochs
    assert epochs is not None, "`for_samples` settles it"
    assert peers.num == 1 or not (alignment or contrast), "they compare whole minibatches"
    num_steps = max(epochs * num_minibatches, 1)
    named = dict(zip(names or map(str, range(len(targets))), targets, strict=True))
    with one_core_each(model, options) as pool:
        state = _State(
            model, options, groups, targets=targets, seed=seed, is_bf16=is_bf16, pool=pool, alignment=alignment,
            contrast=contrast, peers=peers, shard_size=shard_size,
        )  # fmt: skip
        history = state.history
        if not (keeper and state.restore(keeper.load())):
            start = start or score(model, val_minibatches(), targets=targets, is_bf16=is_bf16, peers=peers)
            state.end_epoch(None, start)
        for epoch in range(len(history.epochs), epochs + 1):
            patience = options.patience_epochs
            if patience is not None and epoch - 1 - state.lowest_epoch >= patience:
                history.ending = "val loss stopped falling"
                break
            state.begin_epoch(epoch)
            train = Total(targets)
            with torch.random.fork_rng(devices=[]):
                # for dropout where a minibatch is computed as a whole
                torch.manual_seed(seed * EPOCHS_OF_SEED + epoch + peers.rank * SEEDS_OF_RANK)
                shown = show(minibatches(epoch), epoch)
                pairs = zip(shown, alignment.minibatches(epoch), strict=True) if alignment else zip(shown, repeat(None))
                for minibatch, unlabelled in pairs:
                    if not state.train(minibatch, unlabelled, num_steps=num_steps, total=train):
                        history.ending = "the loss was not finite"
                        break
            if history.ending == "every epoch was run":
                peers.follow_first([*model.buffers()])  # statistics of normalisation, each of its own minibatches
                with state.averaged():
                    val = score(model, val_minibatches(), targets=targets, is_bf16=is_bf16, peers=peers)
                    if math.isfinite(val.scores().loss):
                        state.end_epoch(train.joined(peers), val)
                    else:
                        history.ending = "the loss was not finite"
            if history.ending == "the loss was not finite":
                logger.warning(
                    "the loss was not finite in epoch %d: the weights of epoch %d are kept; lower the learning rates",
                    epoch, history.kept,
                )  # fmt: skip
                break
            logger.info(_line(history.epochs[-1], epochs, named))
            if keeper and peers.is_first:
                keeper.save(state.tensors(), facts=state.facts())
        state.return_to_kept()
    model.eval()
    return history


class _State:
    """The state of a training: all that changes from step to step."""

    def __init__(
        self,
        model: nn.Module,
        options: FitOptions,
        groups: Sequence[Group],
        *,
        targets: Sequence[Target],
        seed: int,
        is_bf16: bool,
        pool: Pool | None,
        alignment: Alignment | None = None,
        contrast: Contrast | None = None,
        peers: Peers = ALONE,
        shard_size: int = SHARD_SIZE,
    ) -> None:
        self.model = model
        self.peers = peers
        self.shard_size = shard_size
        self.alignment = alignment
        self.contrast = contrast
        self.pool = pool
        self.preparing = [part for part in model.modules() if isinstance(part, Prepares)]
        self.chance = np.random.default_rng()  # for one epoch
        self.options = options
        self.targets = targets
        self.seed = seed
        self.is_bf16 = is_bf16
        # neither a checkpoint nor the weights to keep have others, such as those of a backbone behind its features
        here = {id(parameter) for parameter in model.parameters()}
        groups = [replace(group, parameters=[one for one in group.parameters if id(one) in here]) for group in groups]
        self.uncertainty = (
            Uncertainty(len(targets)).to(groups[0].parameters[0].device)
            if options.balance == "uncertainty" and len(targets) > 1
            else None
        )
        if self.uncertainty:
            weighing = Group(parameters=[self.uncertainty.log_variances], learning_rate=groups[0].learning_rate)
            groups = [*groups, weighing]
        if alignment and (own := list(alignment.term.parameters())):
            groups = [*groups, Group(parameters=own, learning_rate=alignment.learning_rate)]
        self.groups = groups
        self.step = 0
        self.history = History()
        self.parameters = [parameter for group in groups for parameter in group.parameters]
        self.optimizer = torch.optim.AdamW(
            [{"params": list(group.parameters), "lr": group.learning_rate} for group in groups], weight_decay=0.0,
            fused=self.parameters[0].device.type == "cpu",  # one pass over the numbers instead of nine
        )  # fmt: skip
        trained = {id(parameter) for parameter in self.parameters}
        frozen = {name for name, parameter in model.named_parameters() if id(parameter) not in trained}
        for name, parameter in model.named_parameters():
            if name in frozen:
                parameter.requires_grad_(False)
        self.changing = {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}
        self.kept = {name: tensor.clone() for name, tensor in self.changing.items()}
        self.lowest = np.empty(0)  # calibrated val losses of the epoch where their mean was lowest, (num_labels,)
        self.lowest_epoch = 0
        self.start = (
            [parameter.detach().clone() for parameter in self.parameters] if options.decay_towards == "start" else []
        )
        self.average = [parameter.detach().clone() for parameter in self.parameters] if options.averaging else []

    def begin_epoch(self, epoch: int) -> None:
        self.chance = np.random.default_rng(self.seed * EPOCHS_OF_SEED + epoch + self.peers.rank * SEEDS_OF_RANK)
        for group in self.groups:
            for parameter in group.parameters:
                parameter.requires_grad_(epoch >= group.from_epoch)
        set_training_mode(self.model, update_statistics=self.options.update_statistics)

    def train(
        self, minibatch: Minibatch, unlabelled: Unlabelled | None = None, *, num_steps: int, total: "Total"
    ) -> bool:
        """Do one step. Return False, and change nothing, where the loss is not finite."""
        device = self.parameters[0].device
        inputs, labels = (to_device(tensor, device) for tensor in minibatch)
        parameters = [parameter for parameter in self.parameters if parameter.requires_grad]
        shards = self._shards(inputs, labels)
        counts = label_counts(self.targets, labels)
        self.peers.add_up([counts])
        forth = partial(self._pass, counts=counts.clamp(min=1))
        back = partial(_gradients, parameters=parameters)
        run = self.pool or map
        list(run(lambda part: part.prepare(), self.preparing))
        self.optimizer.zero_grad()
        loss, logits = 0.0, []
        if self.alignment and unlabelled:
            (others, missing), is_source = unlabelled
            beside = self._split(to_device(others, device), to_device(missing, device))
            passed = list(run(forth, enumerate([*shards, *beside])))
            features = [part.features for part in passed if part.features is not None]
            loss, pulls = self.alignment.pull(
                features[: len(shards)], features[len(shards) :], is_source=is_source, progress=self.step / num_steps
            )
            results = run(lambda pair: back(*pair), zip(passed, pulls, strict=True))
        elif self.contrast:
            passed = list(run(forth, enumerate(shards)))
            loss, pulls = self.contrast.pull([part.features for part in passed if part.features is not None], labels)
            results = run(lambda pair: back(*pair), zip(passed, pulls, strict=True))
        else:
            results = run(lambda shard: back(forth(shard)), enumerate(shards))
        # added up in their order: the same bits each time
        for part_loss, part_logits, gradients in results:
            loss += part_loss
            logits.append(part_logits)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                held = parameter.grad
                parameter.grad = in_layout_of(parameter, gradient) if held is None else held.add_(gradient)
        loss = self.peers.sum(loss)
        self.peers.add_up([parameter.grad for parameter in parameters if parameter.grad is not None])
        if self.uncertainty:
            self.uncertainty.add_penalty(counts)
        if not math.isfinite(loss):
            return False
        # before the step, for which a GPU is not to be waited for
        total.add([torch.cat(parts) for parts in zip(*logits[: len(shards)], strict=True)], minibatch[1])
        factor = learning_rate_factor(self.step, num_steps=num_steps, warmup_fraction=self.options.warmup_fraction)
        if self.options.gradient_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.options.gradient_norm)
        self._decay(factor)
        for settings, group in zip(self.optimizer.param_groups, self.groups, strict=True):
            settings["lr"] = group.learning_rate * factor
        self.optimizer.step()
        torch.autograd.graph.increment_version(self.parameters)  # which the fused step leaves out
        self.step += 1
        if self.average:
            decay = min(self.options.averaging, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(self.average, [parameter.detach() for parameter in self.parameters], 1 - decay)
        return True

    def _shards(self, inputs: Inputs, labels: Tensor) -> list[Shard]:
        """Return the minibatch, mixed if the options say so, in parts for one core each."""
        share, other = 1.0, labels
        if self.options.mixup:
            share = float(self.chance.beta(self.options.mixup, self.options.mixup))
            partner = torch.from_numpy(self.chance.permutation(len(labels))).to(labels.device)
            inputs, other = torch.lerp(inputs[partner], inputs, share), labels[partner]
        return self._split(inputs, labels, other, share=share)

    def _split(self, inputs: Inputs, labels: Tensor, other: Tensor | None = None, *, share: float = 1.0) -> list[Shard]:
        size = self.shard_size if self.pool else len(labels)
        split = (part.split(size) for part in (inputs, labels, labels if other is None else other))
        return [Shard(one, its, mixed, share) for one, its, mixed in zip(*split, strict=True)]

    def _pass(self, numbered: tuple[int, Shard], *, counts: Tensor) -> Passed:
        """Return the shard's part of the loss, its logits, and its features where these are compared."""
        number, shard = numbered
        is_compared = self.alignment is not None or self.contrast is not None
        asked = {"with_features": True} if is_compared else {}
        asked |= {"heads_apart": True} if self.contrast else {}
        with chance_of(self.seed, self.step, number, self.peers.rank) if self.pool else nullcontext():
            logits = forward(self.model, shard.inputs, is_bf16=self.is_bf16, **asked)
        features = logits.pop(0) if is_compared else None
        smoothing = self.options.label_smoothing
        summed = partial(summed_losses, self.targets, logits, label_smoothing=smoothing)
        losses = shard.share * summed(shard.labels)
        if shard.share < 1:
            losses = losses + (1 - shard.share) * summed(shard.other)
        losses = losses / counts
        loss = (losses * self.uncertainty.weights() if self.uncertainty else losses).sum()
        return Passed(loss, logits, features)

    @torch.no_grad()
    def _decay(self, factor: float) -> None:
        """Decay the weights apart from the gradient (Loshchilov & Hutter 2019)."""
        start = iter(self.start)
        for group in self.groups:
            share = group.learning_rate * factor * group.weight_decay
            anchored = [(parameter, next(start, None)) for parameter in group.parameters]
            moved = [pair for pair in anchored if pair[0].grad is not None and share]
            anchors = [anchor for _, anchor in moved if anchor is not None]
            parameters: list[Tensor] = [parameter for parameter, _ in moved]
            if anchors:
                torch._foreach_lerp_(parameters, anchors, share)
            elif parameters:
                torch._foreach_mul_(parameters, 1 - share)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the model the moving average of its weights, if there is one, until the end of the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self.parameters, self.average, strict=False):
            held = parameter.clone()
            parameter.copy_(average)
            average.copy_(held)

    def end_epoch(self, train: "Total | None", val: "Total") -> None:
        """Record the scores of the epoch, and its weights if it is the one to keep."""
        epoch = len(self.history.epochs)
        losses = val.calibrated_losses()
        self.history.epochs.append(
            Epoch(
                epoch=epoch, train=train.scores() if train else None, val=val.scores(),
                val_calibrated_loss=float(losses.mean()),
            )
        )  # fmt: skip
        excess = losses - self.lowest if epoch else -np.ones(2)
        if excess.mean() < 0:
            self.lowest, self.lowest_epoch = losses, epoch
        if excess.mean() <= ROUNDING + (excess.std(ddof=1) / math.sqrt(len(excess)) if len(excess) > 1 else 0):
            self.history.kept, self.history.kept_on_val = epoch, val
            for name, tensor in self.changing.items():
                self.kept[name].copy_(tensor)

    @torch.no_grad()
    def return_to_kept(self) -> None:
        for name, tensor in self.changing.items():
            tensor.copy_(self.kept[name])

    def tensors(self) -> dict[str, Tensor]:
        kept = {f"model.{name}": tensor for name, tensor in self.changing.items()}
        kept |= {f"kept.{name}": tensor for name, tensor in self.kept.items()}
        kept["lowest"] = torch.from_numpy(self.lowest)
        if self.uncertainty:
            kept["log_variances"] = self.uncertainty.log_variances
        if self.alignment:
            kept |= {f"alignment.{name}": tensor for name, tensor in self.alignment.term.state_dict().items()}
        kept |= {f"average.{number}": tensor for number, tensor in enumerate(self.average)}
        for number, parameter in enumerate(self.parameters):
            kept |= {f"optimizer.{number}.{key}": value for key, value in self.optimizer.state[parameter].items()}
        return kept

    def facts(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "kept": self.history.kept,
            "lowest": self.lowest_epoch,
            "epochs": [asdict(epoch) for epoch in self.history.epochs],
        }

    @torch.no_grad()
    def restore(self, kept: tuple[dict[str, Tensor], dict[str, Any]] | None) -> bool:
        """Resume a training. Return False where nothing was kept."""
        if kept is None:
            return False
        tensors, facts = kept
        for name, tensor in self.changing.items():
            tensor.copy_(tensors[f"model.{name}"])
            self.kept[name].copy_(tensors[f"kept.{name}"])
        for number, average in enumerate(self.average):
            average.copy_(tensors[f"average.{number}"])
        if self.uncertainty:
            self.uncertainty.log_variances.copy_(tensors["log_variances"])
        if self.alignment:
            for name, tensor in self.alignment.term.state_dict().items():
                tensor.copy_(tensors[f"alignment.{name}"])
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                parameter = self.parameters[int(index)]
                self.optimizer.state[parameter][key] = (
                    tensor if key == "step" else torch.empty_like(parameter).copy_(tensor)
                )
        self.lowest, self.lowest_epoch = tensors["lowest"].numpy(), facts["lowest"]
        self.step = facts["step"]
        self.history.kept = facts["kept"]
        for epoch in facts["epochs"]:
            scores = {side: scores_of(epoch[side]) for side in ("train", "val")}
            self.history.epochs.append(Epoch(**epoch | scores))
        logger.info("resumes after epoch %d, where an earlier run was stopped", len(self.history.epochs) - 1)
        return True


def _gradients(
    passed: Passed, pull: Tensor | None = None, *, parameters: list[nn.Parameter]
) -> tuple[float, list[Tensor], list[Tensor]]:
    """Return the loss of a shard, its logits, and the gradients of its loss and of the terms on its features."""
    outputs = [passed.loss]
    along: list[Tensor | None] = [None]  # with a tensor of ones torch imports sympy
    if pull is not None and passed.features is not None:
        outputs, along = [*outputs, passed.features], [*along, pull]
    gradients = torch.autograd.grad(outputs, parameters, along, allow_unused=True, materialize_grads=True)
    return passed.loss.item(), [tensor.detach() for tensor in passed.logits], list(gradients)


def in_layout_of(parameter: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient as its parameter lies in memory: the fused optimizer reads both as they lie."""

    def order(tensor: Tensor) -> list[int]:
        return [stride for stride, side in zip(tensor.stride(), tensor.shape, strict=True) if side > 1]

    return gradient if order(gradient) == order(parameter) else torch.empty_like(parameter).copy_(gradient)


def set_training_mode(model: nn.Module, *, update_statistics: bool) -> None:
    """Set training mode, except for frozen parts: their dropout is off and their statistics do not change."""
    model.train()
    for part in model.modules():
        trained = [parameter.requires_grad for parameter in part.parameters()]
        is_normalisation = isinstance(part, Normalisation)
        if trained and (not any(trained) or (is_normalisation and not update_statistics)):
            part.eval()


@contextmanager
def one_core_each(model: nn.Module, options: FitOptions) -> Iterator[Pool | None]:
    """Yield threads that compute parts of a minibatch at once, each on a core of its own.

    Several cores that share a small layer would wait for each other. Yield None where the minibatch has to be computed
    as a whole: where its statistics play a part, or chance from torch's one generator (see `dropout`), or on a GPU.
    """
    parts = list(model.modules())
    has_chance = any(isinstance(part, nn.modules.dropout._DropoutNd | StochasticDepth) and part.p for part in parts)
    has_chance |= any(isinstance(part, nn.MultiheadAttention) and part.dropout for part in parts)
    has_statistics = options.update_statistics and any(isinstance(part, Normalisation) for part in parts)
    if has_chance or has_statistics or next(model.parameters()).device.type != "cpu":
        yield None
        return
    with core_pool() as pool:
        yield pool


def scores_of(facts: dict[str, Any] | None) -> Scores | None:
    """Return the scores that a checkpoint keeps as JSON."""
    return (
        Scores(**facts | {"of_targets": tuple(OfTarget(**fields) for fields in facts["of_targets"])}) if facts else None
    )


def _line(epoch: Epoch, epochs: int, targets: Mapping[str, Target]) -> str:
    assert epoch.train is not None
    parts = [
        f"{side} loss {scores.loss:.4f} {_measures(scores, targets)}"
        for side, scores in (("train", epoch.train), ("val", epoch.val))
    ]
    return f"epoch {epoch.epoch}/{epochs}: {', '.join(parts)}"


def _measures(scores: Scores, targets: Mapping[str, Target]) -> str:
    """Return the accuracy, or the mean error where that shows more; of several targets each one's own, by name."""
    measures = {name: _measure(scores, targets[name]) for name, scores in zip(targets, scores.of_targets, strict=True)}
    return next(iter(measures.values())) if len(measures) == 1 else f"({', '.join(map(' '.join, measures.items()))})"


def _measure(scores: OfTarget, target: Target) -> str:
    if scores.error is None or scores.accuracy is None:
        return "without labels"
    if target.kind == "classes":
        return f"accuracy {scores.accuracy:.4f}"
    return f"error {scores.error:.4g} ({target.unit})"
