"""Fine-tune a classifier: train the head and the unfrozen blocks, and compare the result with the start."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.data.samples.samples import Positions, Samples
from tasks.embedding.boundary import Boundary
from tasks.embedding.embedder import Embedder, Embeds, Modality, keep_freed_memory, plan
from tasks.embedding.packing import HiddenStates
from tasks.embedding.ready import modality_of
from tasks.machine.cores import spread
from tasks.machine.peers import ALONE, Peers
from tasks.machine.progress import progress
from tasks.models.classifier import Classifier
from tasks.targets.classes import Classes
from tasks.targets.kinds import targets_of
from tasks.targets.number import Number
from tasks.targets.target import Facts, Target
from tasks.text.packed import Lengths
from tasks.text.transform import MOST_WINDOWS, TextTransform
from tasks.training.alignment.discrepancy import discrepancy_of
from tasks.training.finetuning.activations import Activations, Views, WholeSamples
from tasks.training.finetuning.adapters import adapt, merge
from tasks.training.finetuning.do_no_harm import Judged, Verdict, judge
from tasks.training.finetuning.few_labels import LEAST_STEPS, Layers, fit_heads, vectors_of
from tasks.training.finetuning.options import FinetuneOptions
from tasks.training.finetuning.path import FINETUNED, HEAD, SHARES, Weights, put, weights_at
from tasks.training.finetuning.unfreezing import Trained, all_blocks, boundary_of, make_groups, unfrozen
from tasks.training.heads.options import HeadOptions
from tasks.training.loop.alignment import Alignment, Unlabelled
from tasks.training.loop.contrast import Contrast
from tasks.training.loop.fit import EPOCHS_OF_SEED, History, Keeper, fit
from tasks.training.loop.losses import columns_of
from tasks.training.loop.schedule import for_samples
from tasks.training.loop.scores import Inputs, Minibatch, Total, score

logger = logging.getLogger("graftline")

TOKENS_AT_ONCE = 2**15  # at most, of these texts
TEXTS = {"cpu": 64, "cuda": 256}  # that a core turns into activations at once, so that these stay small


class Source(Protocol):
    """The inputs of the trained part of a model, in minibatches of `size`.

    A view is augmented; the view None is the unchanged sample. `num_views` counts the views; None means unlimited.
    """

    @property
    def num_views(self) -> int | None: ...

    def minibatches(self, rows: Positions, view: int | None, *, size: int) -> Iterator[Inputs]: ...


@dataclass(frozen=True, kw_only=True)
class Data:
    """Labels (n, total width) as `label_tensor` makes them, and the samples of train and val.

    `unlabelled` are the samples of the domains to align to, in train or in the pool, whose labels an alignment ignores.
    `words` are the logits (num_val, num_classes) that the words of val have, by target, where the heads read words.
    """

    labels: Tensor
    train: Positions
    val: Positions
    unlabelled: Positions = field(default_factory=lambda: np.empty(0, np.intp))
    words: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)

    @property
    def augmented(self) -> Positions:
        """Return the samples whose augmented views are learned from: train, then the others of `unlabelled`."""
        return np.concatenate([self.train, self.unlabelled[~np.isin(self.unlabelled, self.train)]])

    def part(self, targets: Mapping[str, Target], names: Sequence[str]) -> "Data":
        """Return the data of some of all `targets`, with the samples that have a label of one of them."""
        columns = dict(zip(targets, columns_of(list(targets.values()), self.labels), strict=True))
        has_label = torch.stack([~columns[name][:, 0].isnan() for name in names]).any(dim=0).numpy()
        is_kept = has_label[self.val]
        return Data(
            labels=torch.cat([columns[name] for name in names], dim=1),
            train=self.train[has_label[self.train]],
            val=self.val[is_kept],
            unlabelled=self.unlabelled,
            words={name: logits[is_kept] for name, logits in self.words.items() if name in names},
        )


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The result of a training: its epochs, and the answers on val for its targets, by the share of the way.

    `judged` has the share 0, the start: the head alone, or the model in use, and then `heads` has the head alone. Where
    an epoch was kept, it has all of the SHARES, see `path`. `refitted` are the heads of each share beyond the start,
    where they were fitted anew; else they go the same way as the other weights.
    """

    history: History
    judged: dict[float, dict[str, Judged]]
    num_blocks: int  # that were trained
    num_all_blocks: int  # of the backbone
    harm_significance: float  # of the verdict
    heads: dict[str, Judged] | None = None
    refitted: Mapping[float, Layers] = field(default_factory=dict)

    def paths(self) -> dict[str, dict[float, Judged]]:
        """Return the results by target and share of the way."""
        return {name: {share: results[name] for share, results in self.judged.items()} for name in self.judged[HEAD]}

    @property
    def verdict(self) -> Verdict:
        """Return the share of the way that is taken in a training for one target."""
        [verdict] = judge(
            self.paths(), history=self.history, significance=self.harm_significance, heads=self.heads
        ).values()
        return verdict


def fine_tune(
    model: Classifier,
    source: Source,
    data: Data,
    *,
    options: FinetuneOptions,
    seed: int,
    keeper: Keeper | None = None,
    what: str = "fine-tune",
    start: Weights | None = None,
    refit: HeadOptions | None = None,
    peers: Peers = ALONE,
) -> Tuned:
    """Train the heads and the unfrozen blocks of `model`, one trunk for all its targets, and judge it on val.

    Afterwards `model` has the weights of the best epoch, and the temperatures and factors of words that fit them. The
    weights on the way to them are judged, too. `what` names the training where its progress is shown. With `start`,
    weights of the same names, training starts there, and the model as it came is judged beside them. With `refit` the
    blocks learn from pairs of samples, and then the heads are fitted anew, see `few_labels`. With `peers` every process
    calls this with the same model and data, and they share each minibatch.
    """
    chosen = plan(options, modality=modality_of(model.backbone))
    is_bf16 = chosen.precision == "bf16"
    if chosen.device == "cpu":
        keep_freed_memory()
    options = for_modality(options, modality_of(model.backbone))
    blocks, cut = unfrozen(model, options.unfreeze)
    model.to(chosen.device)  # before it is shared: to move a buffer makes another
    model.to(memory_format=torch.channels_last)  # as the activations lie, and as cuDNN computes bf16
    num_train, size = len(data.train), options.minibatch_size
    targets = list(model.targets.values())

    def val() -> Iterator[Minibatch]:
        rows = peers.share(data.val)
        if len(rows):  # val may have fewer samples than there are processes
            yield from zip(source.minibatches(rows, None, size=size), torch.split(data.labels[rows], size), strict=True)

    def score_on_val(part: Trained) -> Total:
        return score(part, val(), targets=targets, is_bf16=is_bf16, peers=peers)

    def side_of(rows: Positions) -> tuple[NDArray[np.float32], Tensor]:
        inputs = source.minibatches(rows, None, size=size)
        return vectors_of(trained, inputs, is_bf16=is_bf16), data.labels[rows]

    trained, heads = Trained(model, cut), None
    if start is not None:
        heads = Judged.of(score_on_val(trained), model.targets, data.words)
        put(model, start)
    begin = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if options.method == "lora":
        if not all_blocks(model):
            raise ValueError(
                f"finetune.method is lora, but {model.backbone.architecture} has no layers that run one after the "
                "other: set it to full"
            )
        adapt(model.backbone, blocks, rank=options.lora_rank, seed=seed)
        trained = Trained(model, cut)
    fewest = min(num_train, size) // peers.num  # samples of a minibatch that a process has
    if options.update_statistics and fewest < 2:
        raise ValueError(
            f"finetune.update_statistics needs minibatches of at least 2 samples, found {fewest}: raise "
            "finetune.minibatch_size, land more samples, or turn it off"
        )
    if not fewest:
        raise ValueError(
            f"finetune.num_workers is {peers.num}, but a minibatch has {min(num_train, size)} samples: lower it"
        )
    is_aligned = options.align != "never" and len(data.unlabelled) > 0
    # features of mixed samples belong to no domain
    options = for_samples(replace(options, mixup=0.0) if is_aligned else options, num_train, minibatch_size=size)
    epochs = options.epochs or 0
    total = num_full(num_train, size)
    if refit:
        total = max(total, LEAST_STEPS)

    def rows_of(epoch: int) -> Positions:
        if refit:
            return drawn(data.train, total * size, seed=seed, epoch=epoch)
        order = torch.randperm(
            num_train, generator=torch.Generator().manual_seed(seed * EPOCHS_OF_SEED + epoch)
        ).numpy()
        rows: Positions = data.train[order[: total * size]]
        return rows

    def view_of(epoch: int) -> int:
        return epoch if source.num_views is None else (epoch - 1) % source.num_views

    def train(epoch: int) -> Iterator[Minibatch]:
        whole = rows_of(epoch).reshape(total, -1)
        rows = peers.share(whole.T).T
        size_here = rows.shape[1]
        labels = torch.split(data.labels[rows.reshape(-1)], size_here)
        yield from zip(source.minibatches(rows.reshape(-1), view_of(epoch), size=size_here), labels, strict=True)

    def unlabelled(epoch: int) -> Iterator[Unlabelled]:
        is_source = np.split(~np.isin(rows_of(epoch), data.unlabelled), range(size, total * size, size))
        rows = drawn(data.unlabelled, total * size, seed=seed, epoch=epoch)
        missing = torch.split(torch.full_like(data.labels[rows], torch.nan), size)
        inputs = source.minibatches(rows, view_of(epoch), size=size)
        yield from zip(zip(inputs, missing, strict=True), is_source, strict=True)

    def show(items: Iterable[Minibatch], epoch: int) -> Iterator[Minibatch]:
        return progress(items, total=total, what=f"{what} {epoch}/{epochs}", unit="minibatches")

    alignment = None
    if is_aligned:
        assert options.align != "never"
        drawing = torch.Generator().manual_seed(seed)
        alignment = Alignment(
            term=discrepancy_of(options.align, model.backbone.dim, drawing).to(chosen.device),
            weight=options.align_weight, learning_rate=options.head_learning_rate, minibatches=unlabelled,
        )  # fmt: skip
    classes = [target for target in targets if isinstance(target, Classes)]
    at_start = score_on_val(trained)
    judged = {HEAD: Judged.of(at_start, model.targets, data.words)}
    history = fit(
        trained, options, targets=targets, names=list(model.targets), seed=seed, is_bf16=is_bf16,
        groups=make_groups(model, options, blocks=blocks, epochs=epochs), minibatches=train, num_minibatches=total,
        val_minibatches=val, start=at_start, alignment=alignment, contrast=Contrast(targets=classes) if refit else None,
        keeper=keeper, peers=peers, show=show,
    )  # fmt: skip
    known, history.kept_on_val = history.kept_on_val, None  # large: it does not stay while other trunks are trained
    merge(model)
    refitted: dict[float, Layers] = {}
    if history.kept:
        end = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        for share in SHARES[1:]:
            put(model, weights_at(share, begin, end))
            if refit:
                refitted[share] = fit_heads(model.targets, side_of(data.train), side_of(data.val), refit)
                model.graft({name: [layer] for name, layer in refitted[share].items()})
            is_kept_epoch = share == FINETUNED and options.method == "full" and not refit
            answers = known if is_kept_epoch and known else score_on_val(trained)
            judged[share] = Judged.of(answers, model.targets, data.words)
    model.cpu()
    model.to(memory_format=torch.contiguous_format)
    calibrate(model, judged[max(judged)])
    return Tuned(
        history=history,
        judged=judged,
        num_blocks=len(blocks),
        num_all_blocks=len(all_blocks(model)),
        harm_significance=options.harm_significance,
        heads=heads,
        refitted=refitted,
    )


def drawn(rows: Positions, num: int, *, seed: int, epoch: int) -> Positions:
    """Return `num` samples in an order of the epoch; the numbers of draws of two samples differ by at most one."""
    chance = np.random.default_rng((seed, epoch))
    rounds = [chance.permutation(rows) for _ in range(-(-num // len(rows)))]
    return np.concatenate(rounds)[:num]


def calibrate(model: Classifier, judged: Mapping[str, Judged]) -> None:
    """Set the calibration of each target, its temperature, and the factors of words, as they suit val best."""
    for name, result in judged.items():
        model.targets[name], model.temperatures[name] = result.target, result.temperature
        if model.words and name in model.words.factors:
            model.words.factors[name] = result.factors


def open_source(
    samples: Samples[Any],
    model: Classifier,
    data: Data,
    *,
    views: Views,
    scratch: Path,
    backbone: str,
    options: FinetuneOptions,
    lengths: Sequence[Lengths] | None = None,
    peers: Peers = ALONE,
) -> Source:
    """Return the source of a training: the samples, or the activations of the frozen layers if there are any.

    Activations that fit into the budget are computed now, by all peers. `lengths`, of texts, are those that
    `lengths_of` returns.
    """
    network, modality = model.backbone, modality_of(model.backbone)
    options = for_modality(options, modality)
    cut = boundary_of(model, options.unfreeze)
    if cut is None:
        if options.unfreeze != "all":
            logger.info("the activations of the frozen layers cannot be kept: they are computed anew in every epoch")
        device = plan(options, modality=modality).device
        return WholeSamples(samples, transform=network.transform, views=views, device=device)
    assert (lengths is not None) == (modality == "text")
    start = time.monotonic()
    chosen = plan(options, modality=modality)
    if isinstance(cut, Boundary):
        embedder: Embeds = Embedder(network, chosen, boundary=cut)
    else:
        # few long texts have as many activations as many short ones
        longest = network.transform.max_tokens * (MOST_WINDOWS if network.transform.long == "windows" else 1)
        size = max(min(TEXTS[chosen.device], TOKENS_AT_ONCE // longest), 1)
        embedder = HiddenStates(network, replace(chosen, minibatch_size=size), boundary=cut)
    source = Activations(
        samples, embedder=embedder, boundary=cut, backbone=backbone, views=views, options=options,
        train=data.augmented, val=data.val, path=scratch / "activations", lengths=lengths,
    )  # fmt: skip
    computed = source.keep(show=partial(progress, what="activations", unit="minibatches"), peers=peers)
    logger.info(
        "activations of %s samples: %s of %s values kept, %s of them computed now in %.0f s (%.1f kB each)",
        f"{len(samples):,}", f"{source.num_kept:,}", f"{source.num_wanted:,}", f"{computed:,}",
        time.monotonic() - start, source.value_bytes / 1000,
    )  # fmt: skip
    seconds_each = (time.monotonic() - start) / computed if computed else None
    if shortfall := source.shortfall(seconds_each=seconds_each):
        logger.info(shortfall)
    return source


def for_modality(options: FinetuneOptions, modality: Modality) -> FinetuneOptions:
    """Return the options as the modality takes them.

    A text has one view, and texts of different lengths are not mixed.

    Raises:
        ValueError: `mixup` mixes texts, or `method` adapts the layers of images.
    """
    if modality == "images":
        if options.method == "lora":
            raise ValueError("finetune.method is lora, which is for text encoders: set it to full")
        return options
    if options.mixup:
        raise ValueError(
            f"finetune.mixup is {options.mixup:g}, but texts of different lengths cannot be mixed: set it to 0"
        )
    return replace(options, num_views=1, mixup=0.0)


def lengths_of(samples: Samples[Any], transform: TextTransform) -> list[Lengths]:
    """Return the lengths of the windows of each text, in tokens."""
    return list(spread(range(len(samples)), lambda row: tuple(map(len, transform.prepare(samples.decoded(row))))))


def num_full(num_rows: int, size: int) -> int:
    """Return how many minibatches an epoch of training has: the full ones, but at least one.

    A short last minibatch would spoil the statistics of normalisation layers; its rows are drawn in another epoch.
    """
    return max(num_rows // size, 1)


def label_tensor(rows: pd.DataFrame, targets: Mapping[str, Target | Facts]) -> Tensor:
    """Return the truths of all targets side by side, (n, total width), NaN where a label is missing.

    They are float32, or float64 where one is a number: float32 loses a small difference beside a large number.
    """
    known, columns = targets_of(targets), []
    precision = np.float64 if any(isinstance(target, Number) for target in known.values()) else np.float32
    for name, target in known.items():
        truths = target.encode(rows[name])
        columns.append(truths.reshape(len(rows), target.width).astype(precision))
        columns[-1][~target.has_label(truths)] = np.nan
    return torch.from_numpy(np.concatenate(columns, axis=1))


def summary(tuned: Tuned) -> dict[str, Any]:
    """Return the summary of a training for the report."""
    history = tuned.history
    best = history.epochs[history.kept]
    gap = None if best.train is None else best.val.loss - best.train.loss
    return {
        "ending": history.ending,
        "epoch_kept": history.kept,
        "epochs": len(history.epochs) - 1,
        "harm_significance": tuned.harm_significance,
        "loss_gap": gap,
        "num_all_blocks": tuned.num_all_blocks,
        "num_blocks": tuned.num_blocks,
    }


def curve_table(history: History) -> pd.DataFrame:
    """Return a row an epoch: loss and accuracy on train and val, their gaps, and whether the epoch was kept.

    A gap is above 0 where train is better. Epoch 0 is the head alone and has no training scores. `val_calibrated_loss`
    chose the epoch: label smoothing raises `val_loss`, though the model answers no worse.
    """
    rows: list[dict[str, float]] = []
    for epoch in history.epochs:
        row: dict[str, float] = {
            "epoch": epoch.epoch,
            "val_calibrated_loss": epoch.val_calibrated_loss,
            "is_kept": int(epoch.epoch == history.kept),
        }
        for split, scores in (("train", epoch.train), ("val", epoch.val)):
            if scores is not None:
                row |= {f"{split}_loss": scores.loss, f"{split}_accuracy": scores.accuracy}
        rows.append(row)
    columns = [
        "epoch", "train_loss", "train_accuracy", "val_loss", "val_calibrated_loss", "val_accuracy", "is_kept"
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=columns)
    table["loss_gap"] = table["val_loss"] - table["train_loss"]
    table["accuracy_gap"] = table["train_accuracy"] - table["val_accuracy"]
    return table


def target_curves(history: History, place: int, name: str, target: Target) -> pd.DataFrame:
    """Return a row an epoch, by its number: the accuracy of one of several targets on train and val, or its error.

    `place` is that of the target in the training.
    """
    measure = "accuracy" if target.kind == "classes" else "error"
    sides = {
        f"{side}_{measure}.{name}": [
            None if scores is None else getattr(scores.of_targets[place], measure)
            for scores in (getattr(epoch, side) for epoch in history.epochs)
        ]
        for side in ("train", "val")
    }
    return pd.DataFrame(sides, index=[epoch.epoch for epoch in history.epochs], dtype=float)
