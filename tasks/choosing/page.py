"""Draw the page of a choice: a table, and a picture of score against time with the Pareto front."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.choosing.ranking import SCORES, Candidate, Recommendation, front, ranked
from tasks.page.render import render_alone
from tasks.page.scatter import ticks
from tasks.page.wording import figure

TEMPLATE = Path(__file__).parent / "template"
WIDTH, HEIGHT = 340, 220  # px of the picture
CLOSE = 14  # px: the ranks of dots that are closer stand side by side
WORDS = {"probe": "Linear probe", "knn": "Nearest neighbours", "logme": "LogME", "h_score": "H-score"}


def page(
    candidates: Sequence[Candidate],
    recommendation: Recommendation,
    *,
    left_out: Sequence[dict[str, Any]],
    num_samples: int,
    accept: str,
) -> str:
    """Return the page as HTML. `left_out` have `name` and `reason`; `accept` is the command that takes the advice."""
    content = {
        "rows": [
            one.facts() | {"rank": rank, "is_recommended": one is recommendation.candidate}
            for rank, one in enumerate(ranked(candidates), start=1)
        ],
        "scores": {name: WORDS[name] for name in SCORES if any(one.mean(name) is not None for one in candidates)},
        "picture": picture(candidates),
        "recommended": recommendation.candidate.name,
        "why": recommendation.why,
        "is_in_params": recommendation.candidate.number == 0,
        "left_out": left_out,
        "num_samples": num_samples,
        "accept": accept,
    }
    return render_alone(TEMPLATE, "choice.html", content)


def picture(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Return the dots, their labels, the line of the front and the ticks of a drawing of WIDTH x HEIGHT.

    The horizontal axis is the time of a sample in ms, on a scale of logarithms; the vertical one is the score.
    """
    times = {one.number: math.log10(1000 / one.cost.samples_per_second) for one in candidates}
    left, right = widened(min(times.values()), max(times.values()), least=0.2)
    bottom, top = widened(min(one.score for one in candidates), max(one.score for one in candidates), least=0.02)

    def place(one: Candidate) -> tuple[float, float]:
        across = (times[one.number] - left) / (right - left)
        return WIDTH * across, HEIGHT * (top - one.score) / (top - bottom)

    best = front(candidates)
    is_best = {one.number for one in best}
    ends = sorted({left, (left + right) / 2, right})
    places = [(one, *place(one)) for one in ranked(candidates)]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "dots": [{"x": x, "y": y, "name": one.name, "is_best": one.number in is_best} for one, x, y in places],
        "labels": labels([(x, y) for _, x, y in places]),
        "front": " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, best)),
        "across": [
            {"at": WIDTH * (end - left) / (right - left), "text": f"{figure(10**end, digits=2)} ms"} for end in ends
        ],
        "up": [{"at": HEIGHT * (top - value) / (top - bottom), "text": f"{value:.4g}"} for value in ticks(bottom, top)],
    }


def labels(places: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
    """Return the ranks to write beside dots, which lie as they are ranked; close ones share a label."""
    written: list[dict[str, Any]] = []
    for rank, (x, y) in enumerate(places, start=1):
        near = next((one for one in written if abs(one["x"] - x) < CLOSE and abs(one["y"] - y) < CLOSE), None)
        if near is None:
            written.append({"x": x, "y": y, "text": str(rank)})
        else:
            near["text"] += f", {rank}"
    return written


def widened(low: float, high: float, *, least: float) -> tuple[float, float]:
    """Return the ends of an axis, a tenth beyond the values on either side."""
    more = max((high - low) / 10, least / 2)
    return low - more, high + more
