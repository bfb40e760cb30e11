"""The answers to a number: a scatter against the truth with intervals, a histogram of errors, and both as tables."""

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.page.wording import figure
from tasks.targets.number import Number

SIDE = 260  # px of a drawing
MAX_DOTS = 2000
NUM_BINS = 21  # of the histogram: an odd number, so that one of them is around zero
MAX_GROUPS = 10
LEAST_EACH = 5  # samples of a group

Values = NDArray[np.float64]


def scatter(rows: pd.DataFrame, target: Number) -> dict[str, Any]:
    """Return the drawings of a number's answers.

    Args:
        rows: sample_id, label_value, candidate_value, candidate_low, candidate_high.

    Returns:
        dots, spans: by `inside` and `outside` (whether the interval holds the truth), a path of an SVG of SIDE x SIDE
        ticks: round numbers along both axes, each with its `text` and how far it is from the bottom (`at`)
        dot: the width of a dot
        num_dots: drawn ones, of more than MAX_DOTS a random part
        num_beyond: drawn ones on the edge, because they are far from all others
        groups: rows of a table, from the lowest truths to the highest
        histogram: bars, and texts below them
        level: of the intervals
    """
    drawn = rows.sort_values("sample_id").head(MAX_DOTS)  # the smallest hashes: a random draw that stays the same
    truth, answer, low, high = (_column(drawn, name) for name in ("label", "candidate", "low", "high"))
    bottom, top = span(np.concatenate([truth, answer]))

    def place(values: Values) -> Values:
        return np.asarray(SIDE * np.clip((values - bottom) / (top - bottom), 0, 1))

    x, y, ends = place(truth), SIDE - place(answer), (SIDE - place(low), SIDE - place(high))
    is_inside = (low <= truth) & (truth <= high)
    sides = {"inside": is_inside, "outside": ~is_inside}
    is_beyond = (np.minimum(truth, answer) < bottom) | (np.maximum(truth, answer) > top)
    return {
        "side": SIDE,
        "dots": {name: "".join(f"M{a:.1f} {b:.1f}h0" for a, b in _pairs(which, x, y)) for name, which in sides.items()},
        "spans": {
            name: "".join(f"M{a:.1f} {b:.1f}V{c:.1f}" for a, b, c in _pairs(which, x, *ends))
            for name, which in sides.items()
        },
        "ticks": [
            {"text": figure(value), "at": float(SIDE * (value - bottom) / (top - bottom))}
            for value in ticks(bottom, top)
        ],
        "dot": min(max(75 / max(len(drawn), 1) ** 0.5, 2.0), 6.0),
        "num_dots": len(drawn),
        "num_beyond": int(is_beyond.sum()),
        "level": target.level,
        "groups": groups(rows),
        "histogram": histogram(_column(rows, "candidate") - _column(rows, "label")),
    }


def _column(rows: pd.DataFrame, name: str) -> Values:
    full = f"candidate_{name}" if name in ("low", "high") else f"{name}_value"
    return np.asarray(rows[full], np.float64)


def _pairs(which: NDArray[np.bool_], *columns: Values) -> list[list[float]]:
    pairs: list[list[float]] = np.stack([column[which] for column in columns], axis=1).tolist()
    return pairs


def span(values: Values) -> tuple[float, float]:
    """Return the ends of an axis for these values (n,). Values that are far from 99 % of the others lie beyond it."""
    if not len(values):
        return 0.0, 1.0
    low, high = np.quantile(values, [0.005, 0.995])
    reach = (high - low) / 4
    bottom, top = max(values.min(), low - reach), min(values.max(), high + reach)
    if bottom == top:
        wide = abs(bottom) / 10 or 1.0
        bottom, top = bottom - wide, top + wide
    return float(bottom), float(top)


def ticks(bottom: float, top: float) -> list[float]:
    """Return three to seven round numbers from bottom to top: multiples of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(top - bottom))
    step = next(part * power for part in (0.2, 0.5, 1, 2) if (top - bottom) / (part * power) <= 6)
    return [number * step for number in range(math.ceil(bottom / step), math.floor(top / step) + 1)]


def groups(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return equal parts of the samples, from the lowest truths to the highest, with the candidate's answers there."""
    ordered = rows.sort_values("label_value", kind="stable")
    count = min(MAX_GROUPS, max(len(rows) // LEAST_EACH, 1))
    described = []
    for places in np.array_split(np.arange(len(rows)), count):
        part = ordered.iloc[places]
        if part.empty:
            continue
        truth, answer = _column(part, "label"), _column(part, "candidate")
        is_inside = (_column(part, "low") <= truth) & (truth <= _column(part, "high"))
        described.append(
            {
                "truth": f"{figure(truth.min())} to {figure(truth.max())}",
                "count": len(part),
                "answer": figure(answer.mean()),
                "error": figure(np.abs(answer - truth).mean()),
                "inside": float(is_inside.mean()),
            }
        )
    return described


def histogram(errors: Values, *, width: int = SIDE, height: int = 140) -> dict[str, Any]:
    """Return the bars of errors (n,), answer minus truth, and the numbers below them.

    The axis ends at the largest of 99 % of the distances to zero; errors beyond it are in the last bars. `quantiles`
    are rows of a table.
    """
    reach = float(np.quantile(np.abs(errors), 0.99, method="lower")) if len(errors) else 0.0
    reach = reach or 1.0
    counts, _ = np.histogram(np.clip(errors, -reach, reach), bins=NUM_BINS, range=(-reach, reach))
    step, most = width / NUM_BINS, max(int(counts.max()), 1)
    shares = {5: "5 %", 25: "25 %", 50: "half", 75: "75 %", 95: "95 %"}
    return {
        "width": width,
        "height": height,
        "bars": [
            {"x": number * step, "width": step - 1, "height": height * count / most}
            for number, count in enumerate(counts.tolist())
            if count
        ],
        "most": int(counts.max()),
        "ticks": [figure(value, digits=3) for value in (-reach, 0.0, reach)],
        "quantiles": [
            {"share": words, "error": figure(value)}
            for words, value in zip(shares.values(), np.percentile(errors, list(shares)).tolist(), strict=True)
        ]
        if len(errors)
        else [],
    }
