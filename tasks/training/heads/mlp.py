"""The head with a hidden layer: labelled vectors in, two linear layers with a ReLU between them out."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tasks.targets.target import Target
from tasks.training.heads.linear import labelled_rows
from tasks.training.heads.options import HeadOptions
from tasks.training.heads.rows import Array, Labels, StandardRows, Vectors, check_finite
from tasks.training.loop.fit import PLAIN, Group, fit
from tasks.training.loop.scores import Minibatch

EPOCHS = 40
PATIENCE_EPOCHS = 10
MINIBATCH_SIZE = 128
SHARD_SIZE = 64  # two layers take so little time that smaller parts would wait for Python
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05
WARMUP_FRACTION = 0.05
SMALLEST_EPOCH = 16  # minibatches; an epoch of few rows passes over them several times
VAL_ROWS = 4096


class OneHead(nn.Module):
    """Maps vectors (n, dim) to [logits (n, num_outputs)], as the training loop expects of a model."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        dim, hidden_features, num_outputs = sizes
        self.hidden = nn.Linear(dim, hidden_features)
        self.output = nn.Linear(hidden_features, num_outputs)

    def forward(self, vectors: Tensor) -> list[Tensor]:
        return [self.output(self.hidden(vectors).relu())]


def fit_mlp(
    train: tuple[Vectors, Labels],
    val: tuple[Vectors, Labels],
    options: HeadOptions,
    *,
    target: Target,
    seed: int,
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return weight and bias of both layers, of the epoch that `tasks.training.loop.fit` keeps.

    `train`, `val` and the errors are those of `fit_linear`. With balanced class weights, rows are drawn so that all
    classes, or steps, come equally often.
    """
    rows = labelled_rows(target, *train)
    if not len(val[1]):
        raise ValueError(
            "val has no labels, by which the epoch of an mlp is chosen: land more samples, or set train_head.head to "
            "logistic"
        )
    torch.manual_seed(seed)
    model = OneHead(rows.dim, options.hidden_features, target.num_outputs)
    balanced = options.class_weights == "balanced" and target.kind in ("classes", "ordinal")
    size = min(MINIBATCH_SIZE, rows.num)
    passes = -(-SMALLEST_EPOCH * size // rows.num)
    fit(
        model,
        replace(PLAIN, epochs=EPOCHS, warmup_fraction=WARMUP_FRACTION, patience_epochs=PATIENCE_EPOCHS),
        targets=[target],
        seed=seed,
        groups=[Group(parameters=list(model.parameters()), learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY)],
        minibatches=lambda epoch: shuffled(rows, np.random.default_rng((seed, epoch)), size, passes, balanced=balanced),
        num_minibatches=rows.num * passes // size,
        val_minibatches=lambda: minibatches_of(rows, val),
        shard_size=SHARD_SIZE,
    )
    hidden, output = (
        (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
        for layer in (model.hidden, model.output)
    )
    return rows.fold(*hidden), output


def shuffled(
    rows: StandardRows, generator: np.random.Generator, size: int, passes: int, *, balanced: bool
) -> Iterator[Minibatch]:
    """Yield all rows `passes` times, in full minibatches.

    Chunks come in a random order, and the rows of a few chunks at a time are mixed, so that rows on disk are read in
    pieces.
    """
    counts = np.bincount(rows.labels) if balanced else np.empty(0)
    waiting: list[tuple[NDArray[np.float32], Labels]] = []
    num_waiting = 0
    for _ in range(passes):
        order = generator.permutation(len(rows.slices))
        for place, number in enumerate(order):
            chunk = rows.chunk(int(number))
            waiting.append((chunk.vectors, chunk.labels))
            num_waiting += len(chunk.labels)
            if num_waiting < 16 * size and place + 1 < len(order):
                continue
            vectors, labels = (np.concatenate(parts) for parts in zip(*waiting, strict=True))
            if balanced:
                chances = 1 / counts[labels]
                picks = generator.choice(len(labels), len(labels), p=chances / chances.sum())
            else:
                picks = generator.permutation(len(labels))
            full = len(picks) // size * size
            for part in picks[:full].reshape(-1, size):
                yield torch.from_numpy(vectors[part]), columns_of(labels[part])
            waiting = [(vectors[picks[full:]], labels[picks[full:]])]
            num_waiting = len(picks) - full


def minibatches_of(rows: StandardRows, val: tuple[Vectors, Labels]) -> Iterator[Minibatch]:
    vectors, labels = val
    for start in range(0, len(labels), VAL_ROWS):
        chunk = vectors[start : start + VAL_ROWS]
        check_finite(chunk)
        yield torch.from_numpy(rows.standardise(chunk)), columns_of(labels[start : start + VAL_ROWS])


def columns_of(labels: Labels) -> Tensor:
    """Return labels (n,) or (n, width) as the training loop takes them, (n, width); numbers stay float64."""
    are_numbers = labels.ndim == 1 and labels.dtype == np.float64
    columns = torch.from_numpy(labels if are_numbers else labels.astype(np.float32))
    return columns if columns.ndim == 2 else columns[:, None]
