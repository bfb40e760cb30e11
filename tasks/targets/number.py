"""The kind `number`: a quantity with a unit, with standardised outputs, robust losses and intervals."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.targets.target import Floats, Target, Truths

if TYPE_CHECKING:
    from torch import Tensor

NumberLoss = Literal["squared", "huber"]
HUBER_WIDTH = 1.345  # standard deviations: 95 % as exact as least squares where the errors are normal (Huber 1964)
MEDIAN_TO_DEVIATION = 1.4826  # of normal numbers, from the median of their distances to the median
LEVEL = 0.9  # of an interval
TOLERANCE = 0.5  # standard deviations of train: an answer so near counts as right where nobody names a tolerance
COLUMNS = ("value", "low", "high")  # of an answer
LARGEST = 1e30  # in float32 its square is still far from infinite after it is standardised


@dataclass(frozen=True)
class Number(Target):
    """A quantity, in `measure` such as degrees.

    The output is standardised: value = centre + scale * output. The interval holds the share `level` of unseen samples
    that come as those of val do: the ends are the answer plus quantiles of the errors on val (split conformal
    prediction; Vovk et al. 2005, Lei et al. 2018). The error is the distance to the truth, in `measure`.

    Args:
        loss: `huber` is linear beyond HUBER_WIDTH scales. Its scale is the robust standard deviation of train, by the
            median of the distances to the median, so that outlying numbers do not widen it.
        tolerance: an answer at most so far from the truth counts as right.
    """

    measure: str = ""
    loss: NumberLoss = "squared"
    level: float = LEVEL
    tolerance: float | None = None
    centre: float = 0.0
    scale: float = 1.0
    interval: tuple[float, float] | None = None  # added to a value, it gives the two ends
    kind: ClassVar[str] = "number"
    names: ClassVar[tuple[str, ...]] = ()  # type: ignore[misc]  # it has none

    @property
    def num_outputs(self) -> int:
        return 1

    @property
    def unit(self) -> str:
        return self.measure or "its own unit"

    @property
    def allowed_error(self) -> float:
        """Return the largest error, in `measure`, of an answer that counts as right."""
        return TOLERANCE * self.scale if self.tolerance is None else self.tolerance

    def declared(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"kind": self.kind, "level": self.level, "loss": self.loss, "unit": self.measure}
        return facts | ({} if self.tolerance is None else {"tolerance": self.tolerance})

    def facts(self) -> dict[str, Any]:
        known = self.declared() | {"centre": self.centre, "scale": self.scale}
        return known | ({"interval": list(self.interval)} if self.interval else {})

    def read(self, cell: str) -> str:
        try:
            value = float(cell.strip().replace("_", " "))  # Python would read 1_000
        except ValueError:
            raise ValueError(f"{cell.strip()[:60]!r} is no number, expected one such as -12.5") from None
        if not abs(value) <= LARGEST:
            raise ValueError(f"{cell.strip()[:60]!r} is {value:g}, expected a number up to {LARGEST:g}")
        return repr(value + 0.0)  # turns -0.0 into 0.0

    def encode(self, labels: pd.Series) -> NDArray[np.float64]:
        return np.array([np.nan if pd.isna(label) else float(label) for label in labels], dtype=np.float64)

    def has_label(self, truths: Truths) -> NDArray[np.bool_]:
        return np.asarray(~np.isnan(truths))

    def standardised(self, truths: Truths) -> Self:
        """Raises ValueError where train has no two different numbers."""
        if not len(truths) or not np.ptp(truths):
            found = f"the one number {truths[0]:g}" if len(truths) else "no number"
            raise ValueError(f"train has {found}, expected at least two different ones: label more samples")
        centre, scale = float(truths.mean()), float(truths.std())
        if self.loss == "huber":
            centre = float(np.median(truths))
            scale = MEDIAN_TO_DEVIATION * float(np.median(np.abs(truths - centre))) or scale
        if not scale:
            raise ValueError(f"train has numbers that differ by {np.ptp(truths):g} at most: give them in another unit")
        return replace(self, centre=centre, scale=scale)

    def values(self, logits: Floats) -> NDArray[np.float64]:
        """Return the values (n,) of logits (n, 1)."""
        return np.asarray(self.centre + self.scale * logits[:, 0].astype(np.float64))

    def answers(self, logits: Floats, *, temperature: float) -> NDArray[np.float64]:
        values = self.values(logits)
        low, high = self.interval or (0.0, 0.0)
        return np.stack([values, values + low, values + high], axis=1)

    def calibrate(self, logits: Floats, truths: Truths, *, doubt: float | None = None) -> tuple[Self, float]:
        if not len(truths):
            return self, 1.0
        return replace(self, interval=conformal(truths - self.values(logits), level=self.level)), 1.0

    def losses(self, logits: Floats, truths: Truths, *, temperature: float = 1.0) -> Floats:
        apart = np.abs(self.values(logits) - truths) / self.scale
        if self.loss == "squared":
            return np.asarray(apart**2 / 2)
        return np.where(apart <= HUBER_WIDTH, apart**2 / 2, HUBER_WIDTH * (apart - HUBER_WIDTH / 2))

    def log_likelihood(self, losses: Floats) -> float:
        """Return the log-likelihood for errors of a normal distribution with the deviation that fits them best."""
        return -len(losses) / 2 * math.log(max(float(losses.sum()), np.finfo(float).tiny))

    def errors(self, answers: Floats, truths: Truths) -> NDArray[np.float64]:
        return np.asarray(np.abs(answers[:, 0] - truths))

    def is_right(self, answers: Floats, truths: Truths) -> NDArray[np.bool_]:
        return np.asarray(self.errors(answers, truths) <= self.allowed_error)

    def constant(self, truths: Truths) -> NDArray[np.float64]:
        middle = float(np.median(truths))
        return np.array([[middle, middle, middle]])

    def shown(self, answers: Floats) -> list[str]:
        return [repr(float(value)) for value in answers[:, 0]]

    def in_words(self, answers: Floats) -> list[str]:
        """Return `12.3 degrees (8.1 to 16.4)`, with two digits of the interval's width, or else of the scale."""
        width = self.interval[1] - self.interval[0] if self.interval else 0.0
        decimals = min(max(1 - math.floor(math.log10(width or self.scale)), 0), 12)

        def short(number: float) -> str:
            return f"{number:.6g}" if abs(number) >= 1e15 else f"{round(number, decimals) + 0.0:.{decimals}f}"

        texts = []
        for value, low, high in answers.tolist():
            ends = f" ({short(low)} to {short(high)})" if self.interval else ""
            texts.append(f"{short(value)} {self.measure}".rstrip() + ends)
        return texts

    def aligned(self, answers: Floats, wanted: Target) -> tuple[NDArray[np.float64], Target] | None:
        same = isinstance(wanted, Number) and wanted.measure == self.measure
        return (np.asarray(answers, np.float64), wanted) if same else None

    def summed_loss(self, logits: "Tensor", truths: "Tensor", *, label_smoothing: float = 0.0) -> "Tensor":
        import torch.nn.functional as F

        is_there = ~truths[:, 0].isnan()
        wanted = ((truths[:, 0].nan_to_num(nan=self.centre) - self.centre) / self.scale).to(logits.dtype)
        losses = (
            F.mse_loss(logits[:, 0], wanted, reduction="none") / 2
            if self.loss == "squared"
            else F.huber_loss(logits[:, 0], wanted, reduction="none", delta=HUBER_WIDTH)
        )
        return (losses * is_there).sum()

    def deployed(self, logits: "Tensor", *, temperature: float) -> "Tensor":
        import torch

        value = self.centre + self.scale * logits[:, :1].double()  # float32 loses a small scale beside a large centre
        low, high = self.interval or (0.0, 0.0)
        return torch.cat([value, value + low, value + high], dim=1)


def conformal(errors: Floats, *, level: float) -> tuple[float, float]:
    """Return both numbers to add to an answer for the ends of its interval, by the errors truth - answer (n,) on val.

    Each end leaves out half of 1 - level. The rank is that of one sample more, so that the interval holds at least the
    share `level` of unseen samples, for any distribution. Where val has fewer than `least_for` samples, the interval
    spans all its errors, and holds fewer.
    """
    ordered, n = np.sort(errors), len(errors)
    rank = min(math.ceil((n + 1) * (1 + level) / 2), n)  # of the upper end, from 1
    return float(ordered[n - rank]), float(ordered[rank - 1])


def least_for(level: float) -> int:
    """Return how many samples of val an interval of this level needs."""
    return math.ceil(2 / (1 - level) - 1 - 1e-9)
