"""Draw the page of a watch: the drifts, charts of the windows, and every window in a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.page.render import render_alone
from tasks.page.scatter import ticks
from tasks.targets.target import Target
from tasks.watching.record import budget_in_words, in_no_window
from tasks.watching.reference import Reference

TEMPLATE = Path(__file__).parent / "template"
WIDTH, HEIGHT = 560, 160  # px of a chart
MOST_WINDOWS = 120  # on the page; watch.json has every one
MOST_CLASSES = 30  # in the table of shares, those that changed most

Facts = Mapping[str, Any]


def page(found: Facts, targets: Mapping[str, Target], reference: Reference) -> str:
    """Return the content of watch.json as an HTML page."""
    windows = list(enumerate(found["windows"], start=1))[-MOST_WINDOWS:]
    judged = [one for _, one in windows if one["is_judged"]]
    return render_alone(
        TEMPLATE,
        "watch.html",
        {
            "found": found,
            "budget": budget_in_words(false_alarms=found["false_alarms"], num_judged=found["num_judged"]),
            "remarks": in_no_window(found["counts"]),
            "windows": windows,
            "newest": judged[-1] if judged else None,
            "left_out": found["num_windows"] - len(windows),
            "charts": [*charts(windows, targets, reference)],
            "shares": shares(judged[-1], reference) if judged else [],
            "has_accuracy": any(one["accuracy"] for _, one in windows),
        },
    )


def charts(
    windows: Sequence[tuple[int, Facts]], targets: Mapping[str, Target], reference: Reference
) -> list[dict[str, Any]]:
    """Return the charts of the windows: accuracy and confidence by target, domain and unlike samples."""
    drawn = []
    for name in targets:
        accuracy = [one["accuracy"].get(name) for _, one in windows]
        drawn.append(
            chart(f"Accuracy of {name}, with 95 % intervals", windows, [one and one["accuracy"] for one in accuracy],
                  spans=[one and (one["low"], one["high"]) for one in accuracy], usual=reference.accuracy.get(name))
        )  # fmt: skip
        confidence = [one["answers"].get(name, {}).get("mean_confidence") for _, one in windows]
        usual = reference.of(name)["probability"].mean()
        drawn.append(chart(f"Mean confidence of {name}", windows, confidence, usual=usual if usual == usual else None))
    for test, title, by_chance in (
        ("domain", "Domain: area under the curve of a classifier that separates the samples from the reference's", 0.5),
        ("unlike", "Share of samples unlike any that the model was trained on", None),
    ):
        effects = [next((two["effect"] for two in one["tests"] if two["test"] == test), None) for _, one in windows]
        drawn.append(chart(title, windows, effects, usual=by_chance))
    return [one for one in drawn if one["dots"]]


def chart(
    title: str,
    windows: Sequence[tuple[int, Facts]],
    values: Sequence[float | None],
    *,
    spans: Sequence[tuple[float, float] | None] = (),
    usual: float | None = None,
) -> dict[str, Any]:
    """Return the dots, intervals and ticks of a drawing of WIDTH x HEIGHT; `usual` is the value of the reference."""
    ends = [value for value in [*values, usual, *(end for span in spans if span for end in span)] if value is not None]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    more = max((high - low) / 10, 0.01)
    bottom, top = low - more, high + more

    def up(value: float) -> float:
        return round(HEIGHT * (top - value) / (top - bottom), 1)

    def across(place: int) -> float:
        return round(WIDTH * (place + 0.5) / len(windows), 1)

    dots = [
        {
            "x": across(place), "y": up(value), "number": number, "is_drifted": one["is_drifted"],
            "text": f"window {number}: {value:.3f}", "span": tuple(map(up, span)) if span else None,
        }
        for place, ((number, one), value, span) in enumerate(
            zip(windows, values, spans or [None] * len(values), strict=True)
        )
        if value is not None
    ]  # fmt: skip
    return {
        "title": title, "dots": dots, "line": " ".join(f"{dot['x']},{dot['y']}" for dot in dots),
        "usual": None if usual is None else up(usual), "width": WIDTH, "height": HEIGHT,
        "up": [{"at": up(value), "text": f"{value:.3g}"} for value in ticks(bottom, top)],
        "ends": [windows[0][0], windows[-1][0]],
    }  # fmt: skip


def shares(window: Facts, reference: Reference) -> list[dict[str, Any]]:
    """Return a table for each target of classes: how often each is answered, those first that changed most."""
    tables = []
    for name, answers in window["answers"].items():
        usual = reference.of(name)["label"].value_counts()
        if "counts" not in answers or usual.empty:
            continue
        total = sum(answers["counts"].values())
        rows = [
            {
                "name": label,
                "now": answers["counts"].get(label, 0) / total,
                "before": int(usual.get(label, 0)) / usual.sum(),
            }
            for label in sorted({*answers["counts"], *map(str, usual.index)})
        ]
        rows.sort(key=lambda row: -abs(row["now"] - row["before"]))
        tables.append({"target": name, "rows": rows[:MOST_CLASSES], "left_out": max(len(rows) - MOST_CLASSES, 0)})
    return tables
