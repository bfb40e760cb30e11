"""Manifest, leaks, head, backbone and pictures in; the candidate bundle, the better of head and fine-tuned on val, out."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from tasks import stage
from tasks.data.batches import read_batches
from tasks.data.leaks import leaves_training
from tasks.data.manifest import label_indices, read_manifest
from tasks.data.samples import minibatches
from tasks.files import whole_folder
from tasks.models.backbone import Backbone
from tasks.models.bundle import load_bundle, save_bundle, versions
from tasks.models.classifier import Classifier
from tasks.models.head import load_heads
from tasks.params import FinetuneParams
from tasks.progress import progress
from tasks.training.augment import random_affine
from tasks.training.loop import Epoch, Minibatch, fit

logger = logging.getLogger("graftline")


def run(
    *,
    manifests: Path,
    audit: Path,
    batches: Path,
    raw: Path,
    backbone: Path,
    head: Path,
    out: Path,
    curves: Path,
    finetune: FinetuneParams,
    seed: int,
) -> None:
    """Train the last blocks of the backbone together with the head, from the trained head on (Kumar et al. 2022)."""
    manifest = read_manifest(manifests, read_batches(batches))
    manifest = manifest[~leaves_training(manifest, audit)]
    pretrained, lineage = load_bundle(backbone)
    model = graft(pretrained.backbone, head)
    start = time.monotonic()

    def load(split: str) -> Callable[[torch.Generator | None], Iterator[Minibatch]]:
        rows = manifest[manifest["split"] == split].reset_index(drop=True)
        return lambda generator: read_minibatches(rows, model, raw=raw, params=finetune, generator=generator)

    num_train = int((manifest["split"] == "train").sum())
    history, best = fit_top(model, load("train"), load("val"), num_train=num_train, params=finetune, seed=seed)
    head_alone, kept = history[0].val, history[best].val
    is_finetuned = best > 0 and kept.accuracy >= head_alone.accuracy
    if not is_finetuned:
        model = graft(load_bundle(backbone)[0].backbone, head)
    description = {
        "backbone": lineage["fingerprint"],
        "data": digest(manifest),
        "params": finetune.model_dump(),
        "seed": seed,
        "stage": "finetuned" if is_finetuned else "head",
        "epoch": best if is_finetuned else 0,
        "versions": versions(),
    }
    with whole_folder(out) as folder:
        save_bundle(folder, model, lineage=description)
    with whole_folder(curves) as folder:
        curve_table(history).to_csv(folder / "curves.csv", index=False)
    logger.info(
        "fine-tuned for %d epochs in %.0f s: val accuracy %.4f -> %.4f, loss %.4f -> %.4f; the candidate is the %s",
        len(history) - 1, time.monotonic() - start, head_alone.accuracy, kept.accuracy, head_alone.loss, kept.loss,
        f"fine-tuned model of epoch {best}" if is_finetuned else "head alone: no epoch had a lower loss without a lower accuracy",
    )  # fmt: skip


def graft(backbone: Backbone, head: Path) -> Classifier:
    """The backbone with the trained heads of the folder `head`."""
    layers, classes = load_heads(head)
    found = {weight.shape[1] for weight, _ in layers.values()}
    if found != {backbone.dim}:
        raise ValueError(
            f"{head} was trained on {found} features, the backbone gives {backbone.dim}: run train_head again"
        )
    model = Classifier(backbone, classes)
    model.graft(
        {target: (torch.from_numpy(weight), torch.from_numpy(bias)) for target, (weight, bias) in layers.items()}
    )
    return model.eval()


def fit_top(
    model: Classifier,
    train: Callable[[torch.Generator | None], Iterable[Minibatch]],
    val: Callable[[torch.Generator | None], Iterable[Minibatch]],
    *,
    num_train: int,
    params: FinetuneParams,
    seed: int,
) -> tuple[list[Epoch], int]:
    """Train the head and the unfrozen blocks; returns the epochs and the number of the one kept."""
    groups = [{"params": list(model.heads.parameters()), "lr": params.head_learning_rate}]
    unfrozen = unfreeze(model, params.unfreeze)
    if unfrozen:
        groups.append({"params": unfrozen, "lr": params.backbone_learning_rate})
    total = num_full(num_train, params.minibatch_size)

    def show(items: Iterable[Minibatch], epoch: int) -> Iterator[Minibatch]:
        return progress(items, total=total, what=f"fine-tune {epoch}/{params.epochs}", unit="minibatches")

    return fit(
        model,
        minibatches=lambda epoch: train(torch.Generator().manual_seed(seed * 100_003 + epoch)),
        num_minibatches=total,
        val_minibatches=lambda: val(None),
        parameter_groups=groups,
        epochs=params.epochs,
        warmup_fraction=params.warmup_fraction,
        weight_decay=params.weight_decay,
        patience_epochs=params.patience_epochs,
        update_statistics=params.update_statistics,
        show=show,
    )


def unfreeze(model: Classifier, last: str | int) -> list[torch.nn.Parameter]:
    """Freeze the backbone but for its last blocks ("all" for the whole of it); returns what is left to train."""
    parts = [model.backbone] if last == "all" else model.backbone.blocks()[-int(last) :] if last else []
    model.backbone.requires_grad_(False)
    for part in parts:
        part.requires_grad_(True)
    return [parameter for parameter in model.backbone.parameters() if parameter.requires_grad]


def read_minibatches(
    rows: pd.DataFrame, model: Classifier, *, raw: Path, params: FinetuneParams, generator: torch.Generator | None
) -> Iterator[Minibatch]:
    """The rows' images and labels: in their order, or with a generator shuffled, augmented and in full minibatches."""
    if generator is not None:
        order = torch.randperm(len(rows), generator=generator)
        rows = rows.iloc[order[: num_full(len(rows), params.minibatch_size) * params.minibatch_size].numpy()]
    labels = label_tensor(rows, model.classes)
    transform = model.backbone.transform
    side = transform.shorter_side
    read = minibatches(rows, raw=raw, shorter_side=side, pixels=transform.pixels, size=params.minibatch_size)
    for pixels, each in zip(read, torch.split(labels, params.minibatch_size), strict=True):
        images = transform.normalize(pixels)
        yield (images if generator is None else augment(images, generator, params)), each


def num_full(num_rows: int, size: int) -> int:
    """How many minibatches an epoch of training has: a short last one would spoil the statistics of normalisation
    layers, and what it held is drawn in another epoch. Fewer rows than a minibatch are one all the same."""
    return max(num_rows // size, 1)


def augment(images: Tensor, generator: torch.Generator, params: FinetuneParams) -> Tensor:
    return random_affine(
        images,
        generator,
        max_rotation_degrees=params.max_rotation_degrees,
        max_shift_fraction=params.max_shift_fraction,
        max_scale_fraction=params.max_scale_fraction,
        flip=params.flip,
    )


def label_tensor(rows: pd.DataFrame, classes: dict[str, list[str]]) -> Tensor:
    """Label indices (n, num_targets) int64."""
    return (
        torch.tensor([label_indices(rows[target], names) for target, names in classes.items()])
        .reshape(len(classes), -1)
        .T
    )


def digest(manifest: pd.DataFrame) -> str:
    """SHA-256 (hex) of which samples there are, on which side and with which labels: the version of the data."""
    rows = pd.util.hash_pandas_object(manifest.drop(columns=["batch", "path"]), index=False)
    return hashlib.sha256(rows.sort_values().to_numpy().tobytes()).hexdigest()


def curve_table(history: list[Epoch]) -> pd.DataFrame:
    """A row an epoch: epoch, train_loss, train_accuracy, val_loss, val_accuracy; epoch 0 has no training scores."""
    rows: list[dict[str, float]] = []
    for each in history:
        row: dict[str, float] = {"epoch": each.epoch}
        for split, scores in (("train", each.train), ("val", each.val)):
            if scores is not None:
                row |= {f"{split}_loss": scores.loss, f"{split}_accuracy": scores.accuracy}
        rows.append(row)
    return pd.DataFrame(rows, columns=["epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy"])


if __name__ == "__main__":
    stage.main(run)
