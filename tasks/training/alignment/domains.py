"""The domains of an adaptation: labelled sources, and a target with few labels or none; a linear head comes out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tasks.targets.classes import MISSING, log_probabilities
from tasks.training.heads.rows import check_finite

Array = NDArray[np.float64]
Vectors = NDArray[np.floating]
Labels = NDArray[np.int64]


class UnsuitedError(ValueError):
    """The error of domains or a method that do not suit an adaptation, with the reason. The sources' own head stays."""


@dataclass(frozen=True, kw_only=True)
class SourceDomain:
    """A labelled domain: vectors (n, dim) and labels (n,) of train, and of val. `recipe` is how they were embedded."""

    name: str
    train: tuple[Vectors, Labels]
    val: tuple[Vectors, Labels]
    recipe: str = ""


@dataclass(frozen=True, kw_only=True)
class TargetDomain:
    """The domain to adapt to: vectors (m, dim), and labels (m,), MISSING where a sample has none."""

    name: str
    vectors: Vectors
    labels: Labels
    recipe: str = ""

    @classmethod
    def without_judges(
        cls, name: str, vectors: Vectors, labels: Labels, *, judges: NDArray[np.bool_], recipe: str = ""
    ) -> Self:
        """Return the target without the samples that judge, whose labels and vectors must not be learned from."""
        return cls(name=name, vectors=vectors[~judges], labels=labels[~judges], recipe=recipe)

    @classmethod
    def unlabelled(cls, name: str, vectors: Vectors, *, recipe: str = "") -> Self:
        return cls(name=name, vectors=vectors, labels=np.full(len(vectors), MISSING), recipe=recipe)

    @property
    def is_labelled(self) -> NDArray[np.bool_]:
        return np.asarray(self.labels != MISSING)


@dataclass(frozen=True, kw_only=True)
class Domains:
    """The sources and the target. Labels are indices into `classes`.

    Raises:
        UnsuitedError: there is no source or no sample of the target, or a class that no source has.
        ValueError: vectors of different recipes or widths, or numbers that are not finite.
    """

    sources: Sequence[SourceDomain]
    target: TargetDomain
    classes: Sequence[str]

    def __post_init__(self) -> None:
        target = self.target
        if not self.sources:
            raise UnsuitedError(
                f"there is one domain only, {target.name}: adaptation needs labelled samples of another one"
            )
        if not len(target.vectors):
            raise UnsuitedError(
                f"the target domain {target.name} has no samples: land some, or take it from the targets"
            )
        for source in self.sources:
            if not len(source.train[1]):
                raise ValueError(f"the source domain {source.name} has no labelled samples in train: label some")
            if source.recipe != target.recipe or source.train[0].shape[1] != target.vectors.shape[1]:
                raise ValueError(
                    f"the domains {source.name} and {target.name} were embedded by different recipes, which would look "
                    "like a shift: embed both with one backbone and one transform"
                )
            check_finite(source.train[0])
            check_finite(source.val[0])
        check_finite(target.vectors)
        for name, labels, least in (
            *((source.name, part[1], 0) for source in self.sources for part in (source.train, source.val)),
            (target.name, target.labels, MISSING),
        ):
            if len(labels) and not least <= labels.min() <= labels.max() < len(self.classes):
                raise ValueError(
                    f"domain {name} has labels {labels.min()} to {labels.max()}, expected {least} to "
                    f"{len(self.classes) - 1}: all domains need one list of classes"
                )
        counts = np.bincount(self.labels, minlength=len(self.classes))
        known = target.labels[target.is_labelled]
        for label in np.flatnonzero(counts == 0):
            name = self.classes[int(label)]
            has = f"the target domain {target.name} has labels of it" if label in known else "nor has the target"
            raise UnsuitedError(
                f"no source domain has a sample of class {name} in train, {has}: label some in a source, or take "
                "the class out"
            )

    @property
    def labels(self) -> Labels:
        """The labels (n,) of all sources' train."""
        return np.concatenate([source.train[1] for source in self.sources])

    @property
    def val_labels(self) -> Labels:
        return np.concatenate([source.val[1] for source in self.sources])

    @property
    def shares(self) -> Array:
        """The share (k,) of each class in train."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return np.asarray(counts / counts.sum())

    def absent(self) -> dict[str, list[str]]:
        """Return, by source, the classes that it lacks and another source has."""
        absent = {}
        for source in self.sources:
            present = set(source.train[1].tolist())
            if names := [name for label, name in enumerate(self.classes) if label not in present]:
                absent[source.name] = names
        return absent


@dataclass(frozen=True, kw_only=True)
class DomainHead:
    """The linear head of a domain: logits (n, k) = vectors (n, dim) @ weight.T + bias.

    `facts` is JSON: the choice, its grounds, and a `reason` where the requested method was not followed.
    """

    weight: Array  # (k, dim), for vectors as they are
    bias: Array  # (k,)
    method: str
    facts: dict[str, Any] = field(default_factory=dict)

    def logits(self, vectors: Vectors) -> Array:
        return np.asarray(vectors @ self.weight.T + self.bias)

    def log_probabilities(self, vectors: Vectors) -> Array:
        return log_probabilities(self.logits(vectors))
