"""The kind `several`: any number of labels for each sample, each with a logistic output, calibration and threshold."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.machine.names import without_commands
from tasks.targets.classes import reordered
from tasks.targets.target import Floats, Target, Truths, listed, sigmoid

if TYPE_CHECKING:
    from torch import Tensor

SEPARATOR = "|"
MOST_AT_ONCE = 1_000  # labels in a cell
LONGEST = 1_000  # characters of a label
SMALLEST = 1e-12  # of a probability
LEAST_EACH = 5  # samples with a label, and without it, from which val sets its calibration and threshold
MOST_STEPS = 30  # of Newton's method
RIDGE = 1e-3  # towards a slope of 1: labels that val separates would have an endless one


@dataclass(frozen=True)
class Several(Target):
    """A target of any number of labels, out of `names`.

    The probability of a label is sigmoid(slope * logit + shift) (Platt 1999); from its threshold on it is answered. The
    loss is the mean binary cross-entropy over the labels; the error is the share of labels that are wrong (Hamming).

    A cell is a JSON list of labels, or labels with `separator` between them; `[]` is none of them. `columns` are those
    of a table in which each label has a column of 0 and 1, or no and yes.
    """

    names: tuple[str, ...]
    separator: str = SEPARATOR
    columns: tuple[str, ...] = ()
    slopes: tuple[float, ...] = ()
    shifts: tuple[float, ...] = ()
    thresholds: tuple[float, ...] = ()
    kind: ClassVar[str] = "several"

    @property
    def num_outputs(self) -> int:
        return len(self.names)

    @property
    def width(self) -> int:
        return len(self.names)

    @property
    def unit(self) -> str:
        return "share of wrong labels"

    def declared(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"kind": self.kind, "labels": list(self.names)}
        if self.separator != SEPARATOR:
            facts["separator"] = self.separator
        return facts | ({"columns": list(self.columns)} if self.columns else {})

    def facts(self) -> dict[str, Any]:
        own = {"slopes": self.slopes, "shifts": self.shifts, "thresholds": self.thresholds}
        return self.declared() | {name: list(values) for name, values in own.items() if values}

    def read(self, cell: str) -> str:
        return write(labels_of(cell, separator=self.separator))

    def encode(self, labels: pd.Series) -> NDArray[np.float64]:
        index = {name: column for column, name in enumerate(self.names)}
        truths = np.full((len(labels), len(self.names)), np.nan)
        for row, cell in enumerate(labels):
            if pd.isna(cell):
                continue
            truths[row] = 0
            for name in json.loads(cell):
                if name not in index:
                    raise ValueError(
                        f"the manifest has label {name!r}, expected some of {listed(self.names)}: train the head again"
                    )
                truths[row, index[name]] = 1
        return truths

    def has_label(self, truths: Truths) -> NDArray[np.bool_]:
        return np.asarray(~np.isnan(truths).any(axis=1))

    def truths_of(self, columns: NDArray[np.float32]) -> Truths:
        return columns.astype(np.float64)

    def answers(self, logits: Floats, *, temperature: float) -> NDArray[np.float64]:
        return sigmoid(self._calibrated(logits / temperature))

    def _calibrated(self, logits: Floats) -> Floats:
        if not self.slopes:
            return logits
        return np.asarray(logits * np.array(self.slopes) + np.array(self.shifts))

    def calibrate(self, logits: Floats, truths: Truths, *, doubt: float | None = None) -> tuple[Self, float]:
        slopes, shifts = platt(logits.astype(np.float64), truths, doubt=doubt)
        fitted = replace(self, slopes=tuple(slopes.tolist()), shifts=tuple(shifts.tolist()), thresholds=())
        best = best_thresholds(fitted.answers(logits, temperature=1.0), truths)
        return replace(fitted, thresholds=tuple(best.tolist())), 1.0

    def losses(self, logits: Floats, truths: Truths, *, temperature: float = 1.0) -> Floats:
        calibrated = self._calibrated(np.asarray(logits, np.float64) / temperature)
        return np.asarray((np.logaddexp(0, calibrated) - truths * calibrated).mean(axis=1))

    def said(self, answers: Floats) -> NDArray[np.bool_]:
        """Return (n, num_labels): whether each label is answered."""
        return np.asarray(answers >= (np.array(self.thresholds) if self.thresholds else 0.5))

    def errors(self, answers: Floats, truths: Truths) -> NDArray[np.float64]:
        return np.asarray((self.said(answers) != (truths > 0.5)).mean(axis=1))

    def is_right(self, answers: Floats, truths: Truths) -> NDArray[np.bool_]:
        """Return whether every label of a sample is right."""
        return np.asarray((self.said(answers) == (truths > 0.5)).all(axis=1))

    def constant(self, truths: Truths) -> NDArray[np.float64]:
        return np.asarray(truths.mean(axis=0) > 0.5, np.float64)[None]

    def shown(self, answers: Floats) -> list[str]:
        return [write([self.names[column] for column in np.flatnonzero(row)]) for row in self.said(answers)]

    def in_words(self, answers: Floats) -> list[str]:
        rows = (np.flatnonzero(row) for row in self.said(answers))
        return [", ".join(sorted(self.names[column] for column in row)) or "(none)" for row in rows]

    def aligned(self, answers: Floats, wanted: Target) -> tuple[NDArray[np.float64], Target] | None:
        if not isinstance(wanted, Several):
            return None
        thresholds = dict(zip(self.names, self.thresholds or [0.5] * len(self.names), strict=True))
        judges = replace(wanted, thresholds=tuple(thresholds.get(name, 0.5) for name in wanted.names))
        return reordered(answers, self.names, wanted.names), judges

    def summed_loss(self, logits: "Tensor", truths: "Tensor", *, label_smoothing: float = 0.0) -> "Tensor":
        import torch.nn.functional as F

        is_there = ~truths.isnan()
        softened = truths.nan_to_num().to(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
        losses = F.binary_cross_entropy_with_logits(logits, softened, reduction="none")
        return (losses * is_there).sum() / len(self.names)

    def deployed(self, logits: "Tensor", *, temperature: float) -> "Tensor":
        import torch

        scaled = logits / temperature
        if self.slopes:
            scaled = scaled * torch.tensor(self.slopes) + torch.tensor(self.shifts)
        return scaled.sigmoid()


def labels_of(cell: str, *, separator: str = SEPARATOR) -> list[str]:
    """Return the labels of a cell, without repetitions, in order. Raises ValueError where it holds no labels."""
    text = cell.strip()
    if text.startswith("["):
        try:
            parts = json.loads(text)
        except (ValueError, RecursionError):
            parts = None
        if not isinstance(parts, list) or not all(isinstance(part, str | int) for part in parts):
            raise ValueError(f'{short(cell)} is no list of labels: write ["one", "two"], or one{separator}two')
        names = [without_commands(str(part).strip()) for part in parts]  # JSON may have escaped them
    else:
        names = [part.strip() for part in text.split(separator)]
    if not all(names):
        raise ValueError(
            f"{short(cell)} has an empty label, expected labels with {separator!r} between them: correct it, or name "
            "its separator in validate.targets; [] is none of the labels"
        )
    if not all(map(is_name, names)):
        raise ValueError(f"{short(cell)} has a label that is not UTF-8, or has more than {LONGEST:,} characters")
    if len(names) > MOST_AT_ONCE:
        raise ValueError(f"{len(names):,} labels at once, expected at most {MOST_AT_ONCE:,}: is the separator right?")
    return sorted(set(names))


def is_name(name: str) -> bool:
    """Return whether a label can be written, and is short enough for a name."""
    try:
        name.encode()
    except UnicodeEncodeError:  # JSON may escape a half of a character
        return False
    return len(name) <= LONGEST


def write(names: Sequence[str]) -> str:
    """Return labels as the manifest and predictions hold them: a JSON list in order."""
    return json.dumps(sorted(names), ensure_ascii=False, separators=(",", ":"))


def short(cell: str) -> str:
    return repr(cell if len(cell) <= 60 else cell[:59] + "…")


def platt(logits: Floats, truths: Truths, *, doubt: float | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return slope and shift (num_labels,) of each label, by Newton's method for all labels at once (Platt 1999).

    A label that a sample has counts as (hits + 1) / (hits + 2), and one that it lacks accordingly, as Platt smooths
    them; with a doubt of 0 they count as 1 and 0. A label with fewer than LEAST_EACH samples on either side keeps slope
    1 and shift 0.
    """
    hits, num = truths.sum(axis=0), len(truths)
    is_fitted = (hits >= LEAST_EACH) & (num - hits >= LEAST_EACH)
    high, low = (
        (np.ones_like(hits), np.zeros_like(hits)) if doubt == 0 else ((hits + 1) / (hits + 2), 1 / (num - hits + 2))
    )
    wanted = np.where(truths > 0.5, high, low)
    slopes, shifts = np.ones(truths.shape[1]), np.zeros(truths.shape[1])
    for _ in range(MOST_STEPS if is_fitted.any() else 0):
        p = sigmoid(logits * slopes + shifts)
        apart, spread = p - wanted, p * (1 - p)
        by_slope = (apart * logits).sum(axis=0) + RIDGE * (slopes - 1)
        by_shift = apart.sum(axis=0)
        a, b, c = (spread * logits**2).sum(axis=0) + RIDGE, (spread * logits).sum(axis=0), spread.sum(axis=0) + RIDGE
        determinant = np.maximum(a * c - b * b, 1e-12)
        slope_step = np.clip((c * by_slope - b * by_shift) / determinant, -1, 1)
        shift_step = np.clip((a * by_shift - b * by_slope) / determinant, -2, 2)
        slopes, shifts = slopes - slope_step, shifts - shift_step
        if max(np.abs(slope_step).max(), np.abs(shift_step).max()) < 1e-8:
            break
    is_fitted &= slopes > 0  # a label that falls with its own output is left as it is
    return np.where(is_fitted, slopes, 1.0), np.where(is_fitted, shifts, 0.0)


def best_thresholds(probabilities: Floats, truths: Truths) -> NDArray[np.float64]:
    """Return the threshold (num_labels,) of each label with the highest F1; 0.5 where there are too few samples.

    It lies in the middle between two probabilities, so that a small change of a model moves few answers. Macro-F1 is
    the mean of these, and so is highest, too.
    """
    thresholds = np.full(truths.shape[1], 0.5)
    for column in range(truths.shape[1]):
        is_true = truths[:, column] > 0.5
        if min(is_true.sum(), (~is_true).sum()) < LEAST_EACH:
            continue
        values = probabilities[:, column]
        order = np.argsort(-values, kind="stable")
        ranked, hits = values[order], is_true[order].cumsum()
        f1 = 2 * hits / (np.arange(1, len(hits) + 1) + is_true.sum())
        is_end = np.append(ranked[1:] < ranked[:-1], True)
        best = int(np.where(is_end, f1, -1).argmax())
        thresholds[column] = (ranked[best] + (ranked[best + 1] if best + 1 < len(ranked) else 0.0)) / 2
    return thresholds
