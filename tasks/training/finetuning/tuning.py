"""Fine-tune a classifier: train the head and the unfrozen blocks, and compare the result with the start."""

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch
from torch import Tensor

from tasks.data.samples.samples import Positions, Samples
from tasks.embedding.embedder import Embedder, plan
from tasks.machine.progress import progress
from tasks.models.classifier import Classifier
from tasks.targets.classes import label_indices
from tasks.training.finetuning.activations import Activations, Pictures, Views
from tasks.training.finetuning.do_no_harm import Judged, Verdict, judge
from tasks.training.finetuning.options import FinetuneOptions
from tasks.training.finetuning.unfreezing import Trained, boundary_of, make_groups, unfrozen_blocks
from tasks.training.loop.fit import EPOCHS_OF_SEED, History, Keeper, fit
from tasks.training.loop.schedule import for_samples
from tasks.training.loop.scores import Minibatch, score

logger = logging.getLogger("graftline")


class Source(Protocol):
    """What the trained part of a model takes of rows, in minibatches of `size`; a view is augmented, None is the sample as it
    is. There are `num_views`, None for as many as one likes."""

    @property
    def num_views(self) -> int | None: ...

    def minibatches(self, rows: Positions, view: int | None, *, size: int) -> Iterator[Tensor]: ...


@dataclass(frozen=True, kw_only=True)
class Data:
    """labels (n, num_targets) int64, MISSING where there is none; the rows to train on and those to choose by."""

    labels: Tensor
    train: Positions
    val: Positions


@dataclass(frozen=True, kw_only=True)
class Tuned:
    history: History
    verdict: Verdict
    num_blocks: int  # that were trained
    num_all_blocks: int  # of the backbone


def fine_tune(
    model: Classifier,
    source: Source,
    data: Data,
    *,
    options: FinetuneOptions,
    seed: int,
    keeper: Keeper | None = None,
) -> Tuned:
    """Train the head and the unfrozen blocks of `model`, which has the best epoch's weights afterwards and the temperatures
    that fit them; and compare it with what it was."""
    chosen = plan(options)
    is_bf16 = chosen.precision == "bf16"
    cut = boundary_of(model, options.unfreeze)
    trained = Trained(model.to(chosen.device), cut)  # moved before it is shared: moving a buffer makes another
    num_train, size = len(data.train), options.minibatch_size
    if options.update_statistics and min(num_train, size) < 2:
        raise ValueError(
            f"finetune.update_statistics needs minibatches of at least 2 samples, found {min(num_train, size)}: raise "
            "finetune.minibatch_size, land more samples, or turn it off"
        )
    options = for_samples(options, num_train, minibatch_size=size)
    epochs = options.epochs or 0
    total = num_full(num_train, size)

    def train(epoch: int) -> Iterator[Minibatch]:
        order = torch.randperm(
            num_train, generator=torch.Generator().manual_seed(seed * EPOCHS_OF_SEED + epoch)
        ).numpy()
        rows = data.train[order[: total * size]]
        view = epoch if source.num_views is None else (epoch - 1) % source.num_views
        yield from zip(source.minibatches(rows, view, size=size), torch.split(data.labels[rows], size), strict=True)

    def val() -> Iterator[Minibatch]:
        yield from zip(
            source.minibatches(data.val, None, size=size), torch.split(data.labels[data.val], size), strict=True
        )

    def show(items: Iterable[Minibatch], epoch: int) -> Iterator[Minibatch]:
        return progress(items, total=total, what=f"fine-tune {epoch}/{epochs}", unit="minibatches")

    before = Judged.of(score(trained, val(), is_bf16=is_bf16))
    history = fit(
        trained, options, seed=seed, is_bf16=is_bf16, groups=make_groups(model, options, epochs=epochs),
        minibatches=train, num_minibatches=total, val_minibatches=val, keeper=keeper, show=show,
    )  # fmt: skip
    after = Judged.of(score(trained, val(), is_bf16=is_bf16))
    model.cpu().temperatures = dict(zip(model.classes, after.temperatures, strict=True))
    verdict = judge(head=before, finetuned=after, history=history, significance=options.significance)
    return Tuned(
        history=history,
        verdict=verdict,
        num_blocks=len(unfrozen_blocks(model, options.unfreeze)),
        num_all_blocks=len(model.backbone.blocks()),
    )


def open_source(
    samples: Samples[Any],
    model: Classifier,
    data: Data,
    *,
    views: Views,
    scratch: Path,
    backbone: str,
    options: FinetuneOptions,
) -> Source:
    """Return the samples; where layers are frozen, their activations, of which those that fit into the budget are computed now."""
    transform = model.backbone.transform
    cut = boundary_of(model, options.unfreeze)
    if cut is None:
        if options.unfreeze != "all":
            logger.info("nothing that is kept could stand for the frozen layers: they are computed anew in every epoch")
        return Pictures(samples, transform=transform, views=views)
    start = time.monotonic()
    chosen = plan(options)
    source = Activations(
        samples, embedder=Embedder(model.backbone, chosen, boundary=cut), boundary=cut, backbone=backbone,
        views=views, options=options, train=data.train, val=data.val, path=scratch / "activations",
    )  # fmt: skip
    computed = source.keep(show=partial(progress, what="activations", unit="minibatches"))
    logger.info(
        "activations of %s images: %s of %s views kept, %s of them computed now in %.0f s (%.1f kB each)",
        f"{len(samples):,}", f"{source.num_kept:,}", f"{source.num_wanted:,}", f"{computed:,}", time.monotonic() - start,
        source.value_bytes / 1000,
    )  # fmt: skip
    return source


def num_full(num_rows: int, size: int) -> int:
    """How many minibatches an epoch of training has: a short last one would spoil the statistics of normalisation
    layers, and what it held is drawn in another epoch. Fewer rows than a minibatch are one all the same."""
    return max(num_rows // size, 1)


def label_tensor(rows: pd.DataFrame, classes: dict[str, list[str]]) -> Tensor:
    """Label indices (n, num_targets) int64."""
    return (
        torch.tensor([label_indices(rows[target], names) for target, names in classes.items()])
        .reshape(len(classes), -1)
        .T
    )


def summary(tuned: Tuned, options: FinetuneOptions) -> dict[str, Any]:
    """What the report says of the fine-tuning."""
    history, verdict = tuned.history, tuned.verdict
    best = history.epochs[history.kept]
    gap = None if best.train is None else best.val.loss - best.train.loss
    return {
        "ending": history.ending,
        "epoch_kept": history.kept,
        "epochs": len(history.epochs) - 1,
        "loss_gap": gap,
        "num_all_blocks": tuned.num_all_blocks,
        "num_blocks": tuned.num_blocks,
        "significance": options.significance,
        "verdict": asdict(verdict),
    }


def curve_table(history: History) -> pd.DataFrame:
    """A row an epoch: loss and accuracy on train and val, the gaps between them (above 0 where train is better), and whether the
    epoch was kept. Epoch 0 is the head alone and has no training scores."""
    rows: list[dict[str, float]] = []
    for each in history.epochs:
        row: dict[str, float] = {"epoch": each.epoch, "is_kept": int(each.epoch == history.kept)}
        for split, scores in (("train", each.train), ("val", each.val)):
            if scores is not None:
                row |= {f"{split}_loss": scores.loss, f"{split}_accuracy": scores.accuracy}
        rows.append(row)
    columns = ["epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "is_kept"]
    table = pd.DataFrame(rows, columns=columns)
    table["loss_gap"] = table["val_loss"] - table["train_loss"]
    table["accuracy_gap"] = table["train_accuracy"] - table["val_accuracy"]
    return table
