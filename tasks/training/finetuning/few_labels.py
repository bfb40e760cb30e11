"""The labels and the options in; whether fine-tuning learns from pairs of texts, and how, out.

With few labels for each class, an encoder that learns to classify learns each text by heart. An encoder that learns
which texts belong together gains more, and can be trained as a whole (SetFit, Tunstall et al. 2022). The heads are then
fitted anew on the vectors of the trained encoder.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.machine.cores import in_turn, to_device
from tasks.targets.classes import Classes
from tasks.targets.target import Target, Truths
from tasks.training.finetuning.options import FinetuneOptions
from tasks.training.finetuning.unfreezing import Trained
from tasks.training.heads.mixture import FEW_LABELS, fit_few
from tasks.training.heads.options import HeadOptions
from tasks.training.loop.losses import columns_of
from tasks.training.loop.scores import Inputs, forward

# The settings of SetFit: all of the encoder, gently
RATE = 2e-5
LAYERS: Literal["all"] | int = "all"
MINIBATCH_SIZE = 32
EPOCHS = 4
LEAST_STEPS = 12  # of an epoch: few texts are drawn several times

Vectors = NDArray[np.float32]
Layers = dict[str, tuple[Tensor, Tensor]]  # weight (num_outputs, dim) and bias (num_outputs,), by target


def learns_from_pairs(
    targets: Mapping[str, Target], labels: Tensor, options: FinetuneOptions, head: HeadOptions
) -> bool:
    """Return whether texts with these labels of train (n, total width) are few enough, and no option excludes pairs.

    The heads of all targets have to be logistic regressions of classes.
    """
    if options.pairs == "never" or options.align != "never" or options.method != "full" or head.head != "logistic":
        return False
    nums = [int((~truths[:, 0].isnan()).sum()) for truths in columns_of(list(targets.values()), labels)]
    return all(
        isinstance(target, Classes) and num < FEW_LABELS * target.num_outputs
        for target, num in zip(targets.values(), nums, strict=True)
    )


def for_pairs(options: FinetuneOptions) -> FinetuneOptions:
    """Return the options of a training from pairs."""
    return replace(
        options, unfreeze=LAYERS, gradual=False, backbone_learning_rate=RATE, learning_rate_decay=1.0,
        minibatch_size=MINIBATCH_SIZE, epochs=EPOCHS if options.epochs is None else options.epochs,
    )  # fmt: skip


def fit_heads(
    targets: Mapping[str, Target],
    train: tuple[Vectors, Tensor],
    val: tuple[Vectors, Tensor],
    options: HeadOptions,
) -> Layers:
    """Return the linear layer of each target, as the first head was fitted and chosen on val.

    Args:
        train, val: vectors (n, dim) and labels (n, total width), NaN where one is missing.
    """
    known, layers = list(targets.values()), Layers()
    for place, (name, target) in enumerate(targets.items()):
        learned, judged = (
            labelled(target, vectors, columns_of(known, labels)[place]) for vectors, labels in (train, val)
        )
        head = fit_few(target, learned, judged, options)
        layers[name] = torch.from_numpy(head.weight).float(), torch.from_numpy(head.bias).float()
    return layers


def labelled(target: Target, vectors: Vectors, truths: Tensor) -> tuple[Vectors, Truths]:
    """Return the vectors with a label of the target among truths (n, width), and these labels as it encodes them."""
    columns = truths.numpy()
    is_labelled = ~np.isnan(columns[:, 0])
    return vectors[is_labelled], target.truths_of(columns[is_labelled])


@torch.no_grad()
def vectors_of(model: Trained, minibatches: Iterable[Inputs], *, is_bf16: bool) -> Vectors:
    """Return the features (n, dim) of the samples of minibatches, in their order."""
    model.eval()
    device = next(model.parameters()).device

    @torch.no_grad()
    def work(inputs: Inputs) -> Tensor:
        features: Tensor = forward(model, to_device(inputs, device), is_bf16=is_bf16, with_features=True)[0]
        return features.to("cpu", non_blocking=True)

    vectors: Vectors = torch.cat(list(in_turn(minibatches, lambda inputs: inputs, work, device=device.type))).numpy()
    return vectors
