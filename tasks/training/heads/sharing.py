"""Decide which targets learn from the heads of the others, by their loss on rows that neither has seen.

A target shares only where its cross-validated loss, calibrated, falls by more than one standard error (Breiman et al.
1984) and its error does not rise. It learns from the labels of coarser targets, which limit the classes of further rows
(`partial_labels.py`). Where that does not pay, the heads of the others give a prior (`prior.py`).
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks.targets.classes import Classes
from tasks.targets.ordinal import Ordinal
from tasks.targets.target import Target, Truths
from tasks.training.heads.choice import STRONGER
from tasks.training.heads.folds import NUM_FOLDS
from tasks.training.heads.linear import Layer64, labelled_rows, path_of
from tasks.training.heads.logistic import LinearHead, scaled, val_logits
from tasks.training.heads.options import HeadOptions
from tasks.training.heads.partial_labels import classes_inside, path_with_candidates
from tasks.training.heads.prior import prior_of
from tasks.training.heads.rows import Array, StandardRows, Vectors

logger = logging.getLogger("graftline")

SHARES = (0.5, 0.9, 0.99)  # of the prior covariance that the other heads give; where the first is no better, none is
LEAST_LABELS = 10  # with fewer, or with half as many that the folds can judge, a standard error means nothing
FEW_LABELS = 50  # below it, the error has to fall, too
MOST_LABELS = 2_000  # with more, a target knows enough by itself, and the folds would cost more than they give
MANY_LABELS = 500  # from so many on, a target that is no better in the first fold is given up
# a head is calibrated before it is used: a strong L2 strength must not win because its answers are less sure
TEMPERATURES = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
EVERY = 2  # one strength of so many is tried
CHOICE_TOLERANCE = 5e-3  # of the objective, enough to compare losses

Positions = NDArray[np.intp]


class Each(Protocol):
    """A function that yields `function(item, **given)` for each item, in order, as `tasks.machine.cluster.on_each`."""

    def __call__(self, items: Iterable[Any], function: Callable[..., Any], /, **given: Any) -> Iterator[Any]: ...


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
    """The mean cross-validated losses of a target alone and with `givers`, and the standard error of their difference.

    `share` and `l2` are those of the best head that shares; `share` is 0 where the givers give their labels.
    """

    alone: float
    together: float
    standard_error: float
    num_labels: int
    is_shared: bool
    givers: tuple[str, ...]
    share: float
    l2: float
    given: Literal["heads", "labels"]

    @property
    def outcome(self) -> str:
        """Return the outcome for the target in words."""
        if self.is_shared:
            return "shares"
        falls = self.alone - self.together > self.standard_error
        return "stays alone, because its error would not fall with its loss" if falls else "stays alone"

    def facts(self) -> dict[str, Any]:
        return {
            "alone": self.alone,
            "together": self.together,
            "standard_error": self.standard_error,
            "num_labels": self.num_labels,
            "is_shared": self.is_shared,
            "with": list(self.givers),
            **({"given": self.given} if self.given == "labels" else {}),
        }


def share(
    labelled: Mapping[str, Labelled],
    heads: Mapping[str, LinearHead],
    part: Callable[[Positions], Vectors],
    folds: NDArray[np.int64],
    options: HeadOptions,
    *,
    cautious: bool = False,
    part_dims: Sequence[int] = (),
    each: Each | None = None,
) -> tuple[dict[str, LinearHead], dict[str, Comparison]]:
    """Return the heads, with those that share in the place of those alone, and the comparison of each target tried.

    A target is tried with LEAST_LABELS to MOST_LABELS labels. Coarser targets give it their labels, or all others their
    heads.

    Args:
        labelled: the targets with labels in train.
        heads: the head of each target alone.
        part: the vectors of some rows of the manifest.
        folds: the fold (n,) of every row of the manifest.
        cautious, part_dims: as the heads alone were fitted, see `fit_head`.
        each: spreads the folds of all targets, and then the targets, over other processes. None computes here, and no
            fold before it is needed.
    """
    if len(labelled) < 2:
        return dict(heads), {}
    with threadpool_limits(1):
        trial = _Trial(labelled, heads, part, folds, options, cautious=cautious, part_dims=part_dims)
        if each:
            trial.learn_folds(each)
            comparisons = dict(zip(labelled, each(labelled, compare_target, trial=trial), strict=True))
        else:
            comparisons = {name: trial.compare(name) for name in labelled}
        tried = {name: comparison for name, comparison in comparisons.items() if comparison}
        chosen = dict(heads)
        for name, comparison in tried.items():
            if comparison.is_shared:
                chosen[name] = trial.together(name, comparison)
    return chosen, tried


@dataclass(frozen=True, kw_only=True)
class FoldResult:
    """The losses and errors (num_strengths * num_temperatures, m) of the rows (m,) of a fold, NaN for a class that the
    other folds do not have; and the weights of each strength.
    """

    losses: Array
    errors: Array
    weights: list[Array]
    target: Target  # of the weights


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The rows (n,), the classes (n, num_classes) that each may have, and the coarser targets that limit them."""

    coarser: tuple[str, ...]
    rows: Positions
    classes: NDArray[np.bool_]

    def of(self, learned: Target, whole: Target, *, is_kept: NDArray[np.bool_]) -> "Candidates":
        """Return the candidates that remain for a target with some of the classes of the whole one.

        A row that may have another class does not inform about these.
        """
        places = np.array([whole.names.index(name) for name in learned.names])
        is_kept = is_kept & (self.classes[:, places].sum(axis=1) == self.classes.sum(axis=1))
        return replace(self, rows=self.rows[is_kept], classes=self.classes[np.ix_(is_kept, places)])


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
        cautious: bool,
        part_dims: Sequence[int],
    ) -> None:
        self.labelled, self.heads, self.part, self.folds = labelled, heads, part, folds
        self.options = options
        self.part_dims = scaled(part(np.empty(0, np.intp)), part_dims, cautious)
        stronger = STRONGER if cautious else ()
        self.strengths = sorted({*options.l2_strengths, *stronger}, reverse=True)[::EVERY]
        self._rows: dict[tuple[bytes, int], StandardRows] = {}
        self._alone: dict[tuple[str, int], FoldResult | None] = {}

    def learn_folds(self, each: Each) -> None:
        """Learn the folds of all targets, where any target can be compared: each of the others may give to it."""
        if any(map(self.can_compare, self.labelled)):
            keys = [(name, fold) for name in self.labelled for fold in range(NUM_FOLDS)]
            pairs = [{"name": name, "fold": fold} for name, fold in keys]
            self._alone |= zip(keys, each(pairs, learn_fold, trial=self), strict=True)

    def can_compare(self, name: str) -> bool:
        return LEAST_LABELS <= len(self.labelled[name].rows) <= MOST_LABELS

    def compare(self, name: str) -> Comparison | None:
        """Return the comparison of a target alone and together; None where it cannot be compared."""
        if not self.can_compare(name):
            return None
        with_labels = self.with_labels(name)
        return with_labels if with_labels and with_labels.is_shared else self.with_heads(name)

    def with_heads(self, name: str) -> Comparison | None:
        """Return the comparison with the prior that the heads of all other targets give."""
        labelled = self.labelled[name]
        givers = tuple(other for other in self.labelled if other != name)
        comparison: Comparison | None = None
        for share_of_others in SHARES:
            alone: list[FoldResult] = []
            together: list[FoldResult] = []
            for fold in range(NUM_FOLDS):
                before = self.alone(name, fold)
                if before is None:
                    continue
                alone.append(before)
                together.append(self.together_in(name, fold, givers, share=share_of_others))
                is_first = len(alone) == 1 and len(labelled.rows) >= MANY_LABELS and not comparison
                if is_first and best_of(together)[0].mean() >= best_of(alone)[0].mean():
                    break
            if not alone or len(best_of(alone)[0]) < LEAST_LABELS // 2:
                return None
            now = self.comparison(labelled, alone, together, givers, given="heads", share=share_of_others)
            if comparison and now.together >= comparison.together:
                continue
            comparison = now
            if now.alone <= now.together:
                break
        return comparison

    def with_labels(self, name: str) -> Comparison | None:
        """Return the comparison with the labels of coarser targets; None where they cannot be compared."""
        labelled = self.labelled[name]
        alone: list[FoldResult] = []
        together: list[FoldResult] = []
        more = self.candidates(name)
        for fold in range(NUM_FOLDS) if more.coarser else ():
            before = self.alone(name, fold)
            if before is None:
                continue
            learned, judged = known(*self.split(labelled, fold))
            assert learned is not None, "it was learned alone"
            outside = more.of(learned.target, labelled.target, is_kept=self.folds[more.rows] != fold)
            if not len(outside.rows):
                return None
            path = self.path_with(learned, outside, self.strengths, relative_tolerance=CHOICE_TOLERANCE)
            alone.append(before)
            together.append(self.result(path, learned.target, judged, labelled.only(self.folds[labelled.rows] == fold)))
        if not alone or len(best_of(alone)[0]) < LEAST_LABELS // 2:
            return None
        return self.comparison(labelled, alone, together, more.coarser, given="labels")

    def comparison(
        self,
        own: Labelled,
        alone: Sequence[FoldResult],
        together: Sequence[FoldResult],
        givers: tuple[str, ...],
        *,
        given: Literal["heads", "labels"],
        share: float = 0.0,
    ) -> Comparison:
        """Return the comparison of the results of the same folds.

        Labels are facts, and a prior is a guess: a rise of the error within chance counts against the latter alone.
        """
        (losses, errors, _), (with_losses, with_errors, best) = best_of(alone), best_of(together)
        gain = losses - with_losses
        standard_error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
        fall = errors.mean() - with_errors.mean()
        chance = float((errors - with_errors).std(ddof=1) / np.sqrt(len(gain))) if given == "labels" else 0.0
        agrees = fall > 0 if len(own.rows) < FEW_LABELS else fall >= -chance
        return Comparison(
            alone=float(losses.mean()), together=float(with_losses.mean()), standard_error=standard_error,
            num_labels=len(own.rows), is_shared=bool(gain.mean() > standard_error and agrees), givers=givers,
            given=given, share=share, l2=self.strengths[best // len(TEMPERATURES)],
        )  # fmt: skip

    def together(self, name: str, comparison: Comparison) -> LinearHead:
        """Return the head of all rows under the prior that the other heads give, or with the labels of the givers."""
        labelled = self.labelled[name]
        if comparison.given == "labels":
            stronger = [strength for strength in self.strengths if strength >= comparison.l2]
            *_, (l2, (weight, bias)) = self.path_with(labelled, self.candidates(name), stronger)
            return LinearHead(weight=weight, bias=bias, l2=l2, val_log_loss=None)
        rows = labelled_rows(labelled.target, self.part(labelled.rows), labelled.truths, part_dims=self.part_dims)
        given = [directions(self.labelled[giver].target, self.heads[giver].weight) for giver in comparison.givers]
        prior = prior_of([weight * rows.scale for weight in given], share=comparison.share)
        [(l2, (weight, bias))] = path_of(
            labelled.target, rows.under(prior), labelled.truths, self.options, [comparison.l2]
        )
        return LinearHead(weight=weight, bias=bias, l2=l2, val_log_loss=None)

    def alone(self, name: str, fold: int) -> FoldResult | None:
        """Return the results of a fold without other targets; None where it has nothing to learn from or to judge."""
        if (name, fold) not in self._alone:
            labelled = self.labelled[name]
            learned, judged = known(*self.split(labelled, fold))
            self._alone[name, fold] = None
            if learned is not None:
                rows = self.rows_of(learned.rows, fold)
                path = self.path(learned, rows)
                self._alone[name, fold] = self.result(
                    path, learned.target, judged, labelled.only(self.folds[labelled.rows] == fold)
                )
        return self._alone[name, fold]

    def together_in(self, name: str, fold: int, givers: Sequence[str], *, share: float) -> FoldResult:
        """Return the results of a fold under the prior of heads that have not seen it."""
        labelled = self.labelled[name]
        learned, judged = known(*self.split(labelled, fold))
        assert learned is not None, "it was learned alone"
        rows = self.rows_of(learned.rows, fold)
        given = [self.giver(giver, fold) for giver in givers]
        prior = prior_of([weight * rows.scale for weight in given if weight is not None], share=share)
        path = self.path(learned, rows.under(prior))
        return self.result(path, learned.target, judged, labelled.only(self.folds[labelled.rows] == fold))

    def path(self, learned: Labelled, rows: StandardRows) -> Iterator[tuple[float, Layer64]]:
        return path_of(
            learned.target, rows, learned.truths, self.options, self.strengths, relative_tolerance=CHOICE_TOLERANCE
        )

    def path_with(
        self,
        learned: Labelled,
        more: Candidates,
        l2_strengths: Sequence[float],
        *,
        relative_tolerance: float = 0.0,
    ) -> Iterator[tuple[float, Layer64]]:
        """Return the path of a target that also learns which classes more rows may have."""
        rows, order = np.unique(np.concatenate([learned.rows, more.rows]), return_index=True)
        classes = np.concatenate([np.eye(learned.target.num_outputs, dtype=bool)[learned.truths], more.classes])
        return path_with_candidates(
            StandardRows(self.part(rows), part_dims=self.part_dims), classes[order],
            order < len(learned.rows), self.options.class_weights, l2_strengths,
            max_iterations=self.options.max_iterations, relative_tolerance=relative_tolerance,
        )  # fmt: skip

    def candidates(self, name: str) -> Candidates:
        """Return at most MOST_LABELS rows without a label of the target, with the classes that coarser labels allow."""
        labelled = self.labelled[name]
        num_own = labelled.target.num_outputs
        inside: dict[str, NDArray[np.bool_]] = {}
        for giver, coarse in self.labelled.items() if isinstance(labelled.target, Classes) else ():
            if giver == name or not isinstance(coarse.target, Classes):
                continue
            _, ours, theirs = np.intersect1d(labelled.rows, coarse.rows, assume_unique=True, return_indices=True)
            nested = classes_inside(
                labelled.truths[ours], coarse.truths[theirs], num_own=num_own, num_coarse=coarse.target.num_outputs
            )
            if nested is not None:
                inside[giver] = nested
        rows = np.unique(np.concatenate([labelled.rows[:0], *(self.labelled[giver].rows for giver in inside)]))
        rows = np.setdiff1d(rows, labelled.rows, assume_unique=True)
        rows = rows[evenly(len(rows))]
        may_be = np.ones((len(rows), num_own), bool)
        for giver, nested in inside.items():
            coarse = self.labelled[giver]
            _, ours, theirs = np.intersect1d(rows, coarse.rows, assume_unique=True, return_indices=True)
            may_be[ours] &= nested[coarse.truths[theirs]]
        num = may_be.sum(axis=1)
        says = (num > 0) & (num < num_own)
        return Candidates(coarser=tuple(inside) if says.any() else (), rows=rows[says], classes=may_be[says])

    def result(
        self, path: Iterable[tuple[float, Layer64]], target: Target, judged: Labelled, fold: Labelled
    ) -> FoldResult:
        losses, errors = (np.full((len(self.strengths) * len(TEMPERATURES), len(fold.rows)), np.nan) for _ in range(2))
        places = np.isin(fold.rows, judged.rows)
        weights: list[Array] = []
        vectors = self.part(judged.rows)[: len(judged.rows)]
        for number, (_, (weight, bias)) in enumerate(path):
            logits = val_logits(weight, bias, vectors)
            errors_of_rows = target.errors(target.answers(logits, temperature=1.0), judged.truths)
            for step, temperature in enumerate(TEMPERATURES, number * len(TEMPERATURES)):
                losses[step, places] = target.losses(logits, judged.truths, temperature=temperature)
                errors[step, places] = errors_of_rows
            weights.append(weight)
        return FoldResult(losses=losses, errors=errors, weights=weights, target=target)

    def giver(self, name: str, fold: int) -> Array | None:
        """Return the directions (k, dim) of a head that has seen no row of a fold; None where it has seen too few.

        Of the strengths that are tried, it has the one nearest to that of the head of all rows.
        """
        result = self.alone(name, fold)
        if result is None:
            return None
        distances = np.abs(np.log(self.strengths) - np.log(self.heads[name].l2))
        return directions(result.target, result.weights[int(distances.argmin())])

    def split(self, own: Labelled, fold: int) -> tuple[Labelled, Labelled]:
        """Return the rows outside of a fold, at most MOST_LABELS, and those in it."""
        is_out = self.folds[own.rows] == fold
        learned = own.only(~is_out)
        return learned.only(evenly(len(learned.rows))), own.only(is_out)

    def rows_of(self, rows: Positions, fold: int) -> StandardRows:
        """Return standardised rows, the same for all targets that have these.

        The latest are kept, one for each fold: with their intermediate results they may take hundreds of megabytes.
        """
        key = hashlib.sha256(rows.tobytes()).digest(), fold
        known = self._rows.pop(key, None)
        if known is None:
            while len(self._rows) >= NUM_FOLDS:
                del self._rows[next(iter(self._rows))]
            known = StandardRows(self.part(rows), part_dims=self.part_dims)
        self._rows[key] = known
        return known


def learn_fold(pair: Mapping[str, Any], *, trial: _Trial) -> FoldResult | None:
    """Do what `_Trial.alone` does, in another process."""
    with threadpool_limits(1):
        return trial.alone(pair["name"], pair["fold"])


def compare_target(name: str, *, trial: _Trial) -> Comparison | None:
    """Do what `_Trial.compare` does, in another process."""
    with threadpool_limits(1):
        return trial.compare(name)


def best_of(results: Sequence[FoldResult]) -> tuple[Array, Array, int]:
    """Return losses and errors (m,) of all rows that could be judged, and the place of the lowest loss."""
    losses, errors = (np.concatenate([getattr(result, name) for result in results], axis=1)
                      for name in ("losses", "errors"))  # fmt: skip
    is_there = ~np.isnan(losses[0])
    best = int(losses[:, is_there].mean(axis=1).argmin()) if is_there.any() else 0
    return losses[best, is_there], errors[best, is_there], best


def evenly(n: int) -> NDArray[np.bool_]:
    """Return (n,), at most MOST_LABELS of them true, evenly spaced."""
    if n <= MOST_LABELS:
        return np.ones(n, bool)
    is_kept = np.zeros(n, bool)
    is_kept[np.linspace(0, n - 1, MOST_LABELS).astype(int)] = True
    return is_kept


def directions(target: Target, weight: Array) -> Array:
    """Return the rows of a head's weights that carry information: a shift of all classes carries none, nor a copy."""
    if isinstance(target, Classes):
        return np.asarray(weight - weight.mean(axis=0))
    return weight[:1] if isinstance(target, Ordinal) else weight


def known(learned: Labelled, judged: Labelled) -> tuple[Labelled | None, Labelled]:
    """Return both with only the classes or steps of the learned rows; None where these are too few to learn from."""
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
