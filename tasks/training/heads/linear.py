"""The linear head of a target of any kind: vectors and truths in; the layer that val chooses, out."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks.targets.classes import Classes
from tasks.targets.number import Number
from tasks.targets.several import Several
from tasks.targets.target import Target, Truths
from tasks.training.heads.choice import Choice
from tasks.training.heads.logistic import LinearHead, Solver, all_val_logits, fit_head, scaled
from tasks.training.heads.options import HeadOptions
from tasks.training.heads.ordinal import Cumulative
from tasks.training.heads.ridge import path
from tasks.training.heads.rows import Array, StandardRows, TrainingRows, Vectors

Layer64 = tuple[Array, Array]  # weight (num_outputs, dim), bias (num_outputs,)


def fit_linear(
    target: Target,
    train: tuple[Vectors, Truths],
    val: tuple[Vectors, Truths],
    options: HeadOptions,
    *,
    cautious: bool = False,
    part_dims: Sequence[int] = (),
) -> LinearHead:
    """Return the head with the lowest calibrated loss on `val` along a path of L2 strengths; without val, the middle.

    It minimises the mean loss + l2 / 2 * |weight|^2 over standardised features; biases are free. The loss of each of
    several labels counts whole. The head of classes is that of `fit_head`, which also explains `cautious` and
    `part_dims`.

    Args:
        target: with the scale of train.
        train, val: (vectors (n, dim), truths as `target.encode` makes them, all there).

    Raises:
        ValueError: fewer than two classes, steps or numbers in train, a class or step without samples, labels of which
            none varies, or numbers that are not finite.
    """
    if isinstance(target, Classes):
        return fit_head(train, val, options, classes=target.names, cautious=cautious, part_dims=part_dims)
    vectors, truths = train
    choice = Choice(options.l2_strengths, cautious=cautious)
    best: LinearHead | None = None
    with threadpool_limits(1):  # each core works on other rows, so the bits do not depend on the number of cores
        rows = labelled_rows(target, vectors, truths, part_dims=scaled(vectors, part_dims, cautious))
        for l2, (weight, bias) in path_of(target, rows, truths, options, choice.strengths):
            losses = val_losses(target, weight, bias, val)
            if choice.takes(l2, losses):
                loss = float(losses.mean()) if len(losses) else None
                best = LinearHead(weight=weight, bias=bias, l2=l2, val_log_loss=loss)
            if choice.is_over:
                break
    assert best is not None
    return best


def labelled_rows(target: Target, vectors: Vectors, truths: Truths, *, part_dims: Sequence[int] = ()) -> StandardRows:
    """Return the standardised rows with the truths. The errors are those of `fit_linear`."""
    if isinstance(target, Number):
        target.standardised(truths)  # refuses numbers that are all one
    if isinstance(target, Several) and not varies(truths).any():
        raise ValueError(
            f"train has {len(truths):,} samples with the same labels, expected some with a label and some without it: "
            "label more samples"
        )
    if target.kind in ("number", "several"):
        rows = StandardRows(vectors, num_outputs=target.num_outputs, part_dims=part_dims)
        rows.labels = truths
        return rows
    return TrainingRows(
        vectors, truths, target.names, part_dims=part_dims, what="step" if target.kind == "ordinal" else "class"
    )


def path_of(
    target: Target,
    rows: StandardRows,
    truths: Truths,
    options: HeadOptions,
    l2_strengths: Sequence[float],
    *,
    relative_tolerance: float = 0.0,
) -> Iterator[tuple[float, Layer64]]:
    """Yield the strengths and their layers for features that are not standardised, from strong to weak.

    Args:
        relative_tolerance: of logistic regression, see `Solver.path`.
    """
    if isinstance(target, Number):
        standardised = (truths - target.centre) / target.scale
        yield from path(rows, standardised, l2_strengths, loss=target.loss)
    elif target.kind == "ordinal":
        labelled = TrainingRows(rows, truths, target.names, what="step")
        yield from Cumulative(labelled, options.class_weights).path(l2_strengths)
    else:
        is_learned = varies(truths) if isinstance(target, Several) else np.ones(target.num_outputs, bool)
        names = [name for name, is_known in zip(target.names, is_learned, strict=True) if is_known]
        labels = truths if is_learned.all() else truths[:, is_learned]
        solver = Solver(TrainingRows(rows, labels, names), options.class_weights, max_iterations=options.max_iterations)
        for l2, solution in solver.path(l2_strengths, relative_tolerance=relative_tolerance):
            layer = solver.fold(solution)
            yield l2, layer if is_learned.all() else with_constants(layer, truths, is_learned)


def varies(truths: Truths) -> NDArray[np.bool_]:
    """Return (num_labels,): whether some samples have a label and some have not."""
    return np.asarray(truths.min(axis=0, initial=1) < truths.max(axis=0, initial=0))


def with_constants(layer: Layer64, truths: Truths, is_learned: NDArray[np.bool_]) -> Layer64:
    """Return the layer of all labels: one that never varies has its share, of half a sample more on either side."""
    hits = truths.sum(axis=0)
    weight = np.zeros((len(is_learned), layer[0].shape[1]))
    bias = np.log(hits + 0.5) - np.log(len(truths) - hits + 0.5)
    weight[is_learned], bias[is_learned] = layer
    return weight, bias


def val_losses(target: Target, weight: Array, bias: Array, val: tuple[Vectors, Truths]) -> Array:
    """Return the losses (n,) on val, calibrated."""
    vectors, truths = val
    if not len(truths):
        return np.empty(0)
    logits = all_val_logits(weight, bias, vectors)
    calibrated, temperature = target.calibrate(logits, truths, doubt=0.0)
    return np.asarray(calibrated.losses(logits, truths, temperature=temperature))
