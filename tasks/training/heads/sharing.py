"""Decide which targets learn from the heads of the others, by their loss on rows that neither has seen.

A target shares only where its cross-validated loss falls by more than one standard error (Breiman et al. 1984), and
where it has few labels only if its error does not rise either. What is shared is in `prior.py`.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks.targets.classes import Classes
from tasks.targets.ordinal import Ordinal
from tasks.targets.target import Target, Truths
from tasks.training.heads.linear import labelled_rows, path_of
from tasks.training.heads.logistic import LinearHead, val_logits
from tasks.training.heads.options import HeadOptions
from tasks.training.heads.prior import prior_of
from tasks.training.heads.rows import Array, StandardRows, Vectors

logger = logging.getLogger("graftline")

SHARES = (0.9, 0.99, 0.5)  # of the prior covariance that the other heads give; where the first is no better, none is
NUM_FOLDS = 5
LEAST_LABELS = 10  # with fewer, a standard error says nothing
FEW_LABELS = 50  # below it, loss and error have to agree
MOST_LABELS = 2_000  # with more, a target knows enough by itself, and the folds would cost more than they give
EVERY = 2  # of how many strengths one is tried
CHOICE_TOLERANCE = 5e-3  # of the objective, enough to compare losses

Positions = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """The labelled rows of train of a target: their places (n,) in the manifest, in order, and their truths."""

    target: Target
    rows: Positions
    truths: Truths

    def only(self, is_kept: NDArray[np.bool_]) -> "Labelled":
        return replace(self, rows=self.rows[is_kept], truths=self.truths[is_kept])


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The mean cross-validated losses of a target alone and with the heads of `givers`, and the standard error of their
    difference. `share` and `l2` are those of the best head that shares.
    """

    alone: float
    together: float
    standard_error: float
    num_labels: int
    is_shared: bool
    givers: tuple[str, ...]
    share: float
    l2: float

    def facts(self) -> dict[str, Any]:
        return {
            "alone": self.alone,
            "together": self.together,
            "standard_error": self.standard_error,
            "num_labels": self.num_labels,
            "is_shared": self.is_shared,
            "with": list(self.givers),
        }


def folds_of(ids: Iterable[str]) -> NDArray[np.int64]:
    """Return the fold (n,) of each sample or group, by a hash of its name."""
    return np.array([hashlib.sha256(f"fold {name}".encode()).digest()[0] % NUM_FOLDS for name in ids], np.int64)


def share(
    labelled: Mapping[str, Labelled],
    heads: Mapping[str, LinearHead],
    part: Callable[[Positions], Vectors],
    folds: NDArray[np.int64],
    options: HeadOptions,
    *,
    has_one_scale: bool = False,
) -> tuple[dict[str, LinearHead], dict[str, Comparison]]:
    """Return the heads, those that share in place of the ones alone, and the comparison of each target that was tried.

    A target is tried with LEAST_LABELS to MOST_LABELS labels. Its givers are all other targets.

    Args:
        labelled: the targets with labels in train.
        heads: the head of each target alone.
        part: the vectors of some rows of the manifest.
        folds: the fold (n,) of every row of the manifest.
    """
    if len(labelled) < 2:
        return dict(heads), {}
    with threadpool_limits(1):
        trial = _Trial(labelled, heads, part, folds, options, has_one_scale=has_one_scale)
        comparisons = {name: trial.compare(name) for name in labelled}
        tried = {name: comparison for name, comparison in comparisons.items() if comparison}
        chosen = dict(heads)
        for name, comparison in tried.items():
            if comparison.is_shared:
                chosen[name] = trial.together(name, comparison)
    return chosen, tried


class _Trial:
    """The heads of all folds. The givers of a fold have seen none of its rows, and at most MOST_LABELS others."""

    def __init__(
        self,
        labelled: Mapping[str, Labelled],
        heads: Mapping[str, LinearHead],
        part: Callable[[Positions], Vectors],
        folds: NDArray[np.int64],
        options: HeadOptions,
        *,
        has_one_scale: bool,
    ) -> None:
        self.labelled, self.heads, self.part, self.folds = labelled, heads, part, folds
        self.options, self.has_one_scale = options, has_one_scale
        self.strengths = sorted(set(options.l2_strengths), reverse=True)[::EVERY]
        self._rows: dict[tuple[bytes, int], StandardRows] = {}
        self._givers: dict[tuple[str, int], Array | None] = {}

    def compare(self, name: str) -> Comparison | None:
        """Return the comparison of a target alone and together; None where it cannot be compared."""
        own = self.labelled[name]
        if not LEAST_LABELS <= len(own.rows) <= MOST_LABELS:
            return None
        givers = tuple(other for other in self.labelled if other != name)
        alone = self.cross_validated(name, (), share=0.0)
        is_there = ~np.isnan(alone[0][0])
        if is_there.sum() < LEAST_LABELS:
            return None
        losses, errors, _ = best_of(*alone, is_there, self.strengths)
        comparison: Comparison | None = None
        for share_of_others in SHARES:
            results = self.cross_validated(name, givers, share=share_of_others)
            with_losses, with_errors, l2 = best_of(*results, is_there, self.strengths)
            if comparison and with_losses.mean() >= comparison.together:
                continue
            gain = losses - with_losses
            standard_error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
            agrees = len(own.rows) >= FEW_LABELS or with_errors.mean() < errors.mean()
            comparison = Comparison(
                alone=float(losses.mean()), together=float(with_losses.mean()), standard_error=standard_error,
                num_labels=len(own.rows), is_shared=bool(gain.mean() > standard_error and agrees), givers=givers,
                share=share_of_others, l2=l2,
            )  # fmt: skip
            if gain.mean() <= 0:
                break
        return comparison

    def together(self, name: str, comparison: Comparison) -> LinearHead:
        """Return the head of all rows under the prior that the other heads give."""
        own = self.labelled[name]
        rows = labelled_rows(own.target, self.part(own.rows), own.truths, has_one_scale=self.has_one_scale)
        given = [directions(self.labelled[giver].target, self.heads[giver].weight) for giver in comparison.givers]
        prior = prior_of([rows_of * rows.scale for rows_of in given], share=comparison.share)
        [(l2, (weight, bias))] = path_of(own.target, rows.under(prior), own.truths, self.options, [comparison.l2])
        return LinearHead(weight=weight, bias=bias, l2=l2, val_log_loss=None)

    def cross_validated(self, name: str, givers: Sequence[str], *, share: float) -> tuple[Array, Array]:
        """Return the losses and errors (num_strengths, n) of a target; NaN for a class that its fold has not seen."""
        own = self.labelled[name]
        losses, errors = (np.full((len(self.strengths), len(own.rows)), np.nan) for _ in range(2))
        for fold in range(NUM_FOLDS):
            is_out = self.folds[own.rows] == fold
            learned, judged = known(own.only(~is_out), own.only(is_out))
            if learned is None or not len(judged.rows):
                continue
            rows = self.rows_of(learned.rows, fold)
            if givers:
                given = [self.giver(giver, fold) for giver in givers]
                prior = prior_of([weight * rows.scale for weight in given if weight is not None], share=share)
                rows = rows.under(prior)
            places = np.flatnonzero(np.isin(own.rows, judged.rows))
            vectors = self.part(judged.rows)[: len(judged.rows)]
            path = path_of(
                learned.target, rows, learned.truths, self.options, self.strengths, relative_tolerance=CHOICE_TOLERANCE
            )
            for number, (_, (weight, bias)) in enumerate(path):
                logits = val_logits(weight, bias, vectors)
                answers = learned.target.answers(logits, temperature=1.0)
                losses[number, places] = learned.target.losses(logits, judged.truths)
                errors[number, places] = learned.target.errors(answers, judged.truths)
        return losses, errors

    def giver(self, name: str, fold: int) -> Array | None:
        """Return the directions (k, dim) of a head that has seen no row of a fold; None where it has seen too few."""
        if (name, fold) not in self._givers:
            own = self.labelled[name]
            outside = own.only(self.folds[own.rows] != fold)
            few = len(outside.rows) > MOST_LABELS
            learned, _ = known(outside.only(evenly(len(outside.rows))) if few else outside, outside)
            self._givers[name, fold] = None
            if learned is not None:
                rows, l2 = self.rows_of(learned.rows, fold), self.heads[name].l2
                path = path_of(
                    learned.target, rows, learned.truths, self.options, [l2], relative_tolerance=CHOICE_TOLERANCE
                )
                [(_, (weight, _))] = path
                self._givers[name, fold] = directions(learned.target, weight)
        return self._givers[name, fold]

    def rows_of(self, rows: Positions, fold: int) -> StandardRows:
        """Return standardised rows, the same for all targets that have these."""
        key = hashlib.sha256(rows.tobytes()).digest(), fold
        if key not in self._rows:
            self._rows[key] = StandardRows(self.part(rows), has_one_scale=self.has_one_scale)
        return self._rows[key]


def best_of(
    losses: Array, errors: Array, is_there: NDArray[np.bool_], strengths: Sequence[float]
) -> tuple[Array, Array, float]:
    """Return losses and errors (m,) of the rows that are there, with the strength of the lowest mean loss."""
    best = int(losses[:, is_there].mean(axis=1).argmin())
    return losses[best, is_there], errors[best, is_there], strengths[best]


def evenly(n: int) -> NDArray[np.bool_]:
    """Return (n,), MOST_LABELS of them true, evenly spaced."""
    is_kept = np.zeros(n, bool)
    is_kept[np.linspace(0, n - 1, MOST_LABELS).astype(int)] = True
    return is_kept


def directions(target: Target, weight: Array) -> Array:
    """Return the rows of a head's weights that say something: a shift of all classes does not, nor does a copy."""
    if isinstance(target, Classes):
        return np.asarray(weight - weight.mean(axis=0))
    return weight[:1] if isinstance(target, Ordinal) else weight


def known(learned: Labelled, judged: Labelled) -> tuple[Labelled | None, Labelled]:
    """Return both with the classes or steps that are in the learned rows alone; None where nothing can be learned."""
    if not isinstance(learned.target, Classes | Ordinal):
        is_learnable = len(learned.rows) > 1 and bool(np.ptp(learned.truths, axis=0).any())
        return (learned if is_learnable else None), judged
    present = np.unique(learned.truths)
    if len(present) < 2:
        return None, judged
    target = replace(learned.target, names=tuple(learned.target.names[place] for place in present))
    is_known = np.isin(judged.truths, present)
    return (
        replace(learned, target=target, truths=np.searchsorted(present, learned.truths)),
        replace(
            judged.only(is_known), target=target, truths=np.searchsorted(present, judged.truths[is_known])
        ),
    )  # fmt: skip
