"""Fit the head of a target on frozen features: labelled rows of train and val in, the layers before calibration out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.targets.classes import Classes
from tasks.targets.head import Layer
from tasks.targets.target import Target
from tasks.training.heads.centroid import fit_centroids
from tasks.training.heads.linear import fit_linear
from tasks.training.heads.logistic import LinearHead, scaled
from tasks.training.heads.mixture import fit_depths, fit_few
from tasks.training.heads.options import HeadOptions
from tasks.training.heads.rows import Array, Labels, StandardRows, Vectors
from tasks.training.heads.sharing import Labelled

MOST_NUMBERS = 2**26  # of val's vectors that are read into memory, once for all strengths and targets


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The layers of a head before calibration, and the linear head where it is one.

    `share_of_depths` is the weight of the features of all depths in it, beside those of the last alone.
    """

    layers: tuple[Layer, ...]
    linear: LinearHead | None = None
    share_of_depths: float | None = None

    @property
    def l2(self) -> float | None:
        """Return the strength that val, or cross-validation, chose."""
        return self.linear.l2 if self.linear else None


class SharedRows:
    """The vectors of rows of the manifest, as heads take them. Targets on the same rows share intermediate results.

    Args:
        vectors: of all rows, such as `tasks.data.vectors.embeddings.Embeddings`.
        cautious: see `fit_head`.
        are_several: whether there are several targets.
    """

    def __init__(self, vectors: Any, options: HeadOptions, *, cautious: bool, are_several: bool) -> None:
        self.vectors, self.options = vectors, options
        self.cautious, self.are_several = cautious, are_several
        self._latest: dict[str, tuple[bytes, Vectors]] = {}

    def of_train(self, rows: NDArray[np.intp]) -> Vectors:
        return self._once("train", rows, self._standard) if self.are_several else self.vectors.part(rows)

    def of_val(self, rows: NDArray[np.intp]) -> Vectors:
        return self._once("val", rows, self._read)

    def _once(self, side: str, rows: NDArray[np.intp], make: Any) -> Vectors:
        if side not in self._latest or self._latest[side][0] != rows.tobytes():
            self._latest.pop(side, None)  # before the next is made: each may fill much of the memory
            self._latest[side] = rows.tobytes(), make(self.vectors.part(rows))
        return self._latest[side][1]

    def _standard(self, part: Any) -> Vectors:
        is_logistic = self.options.head == "logistic"  # as each kind of head takes them alone
        return StandardRows(
            part, part_dims=scaled(part, self.vectors.part_dims, self.cautious) if is_logistic else ()
        )  # fmt: skip

    def _read(self, part: Any) -> Vectors:
        read: Vectors = part[: len(part)] if part.shape[0] * part.shape[1] <= MOST_NUMBERS else part
        return read


def fit_target(
    name: str,
    *,
    train: Mapping[str, Labelled],
    val: Mapping[str, Labelled],
    rows: SharedRows,
    options: HeadOptions,
    seed: int,
) -> Fitted:
    """Return the head of one of the targets. Raises ValueError, with its name, where it cannot be fitted."""
    own, other = train[name], val[name]
    try:
        return fit(
            own.target, (rows.of_train(own.rows), own.truths), (rows.of_val(other.rows), other.truths), options,
            cautious=rows.cautious, part_dims=rows.vectors.part_dims, seed=seed,
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"target {name}: {error}") from error


def fit(
    target: Target,
    train: tuple[Vectors, Labels],
    val: tuple[Vectors, Labels],
    options: HeadOptions,
    *,
    cautious: bool,
    part_dims: Sequence[int],
    seed: int,
) -> Fitted:
    """Return the head that the options name. `cautious` and `part_dims` are those of `fit_head`."""
    if options.head == "centroid":
        if not isinstance(target, Classes):
            raise ValueError(
                f"the head is centroid, which is for classes alone, and this target is {target.kind}: set "
                "train_head.head to logistic"
            )
        return Fitted(layers=(half_size(fit_centroids(train, classes=target.names)),))
    if options.head == "mlp":
        from tasks.training.heads.mlp import fit_mlp  # torch takes seconds to import

        return Fitted(layers=tuple(map(half_size, fit_mlp(train, val, options, target=target, seed=seed))))
    if part_dims:
        head, share = fit_depths(target, train, val, options, part_dims=part_dims)
        return replace(linear_head(head), share_of_depths=share)
    if cautious:
        return linear_head(fit_few(target, train, val, options))
    return linear_head(fit_linear(target, train, val, options))


def linear_head(head: LinearHead) -> Fitted:
    return Fitted(layers=(half_size((head.weight, head.bias)),), linear=head)


def half_size(layer: tuple[Array, Array]) -> Layer:
    """Return a layer in float32, as the bundle keeps it."""
    weight, bias = layer
    return weight.astype(np.float32), bias.astype(np.float32)
