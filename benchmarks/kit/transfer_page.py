"""Write the tables of docs/transfer.md and the plot docs/transfer.svg from the results of `transfer` and `ood`.

`python -m benchmarks.kit.transfer_page` replaces the text between the marks `<!-- NAME -->` and `<!-- /NAME -->` of the
page; the rest is written by hand.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"
PAGE = ROOT / "docs/transfer.md"
PLOT = ROOT / "docs/transfer.svg"

Rows = list[dict[str, Any]]

NAMES = {"pixels": "raw pixels", "scratch": "from scratch", "head": "head alone", "finetune": "fine-tuned"}
OOD_NAMES = {
    "head": "head alone (LP)",
    "finetune": "fine-tuned from a random head (FT)",
    "lp_ft": "fine-tuned from the trained head (LP-FT)",
    "shipped": "what val chooses between LP and LP-FT, as shipped",
}
COLOURS = {"pixels": "#8b949e", "scratch": "#d1762b", "head": "#3d85d9", "finetune": "#2f9e58"}
PANEL = 250  # px, width and height of a panel
MARGIN = 50  # px, around each panel


def main() -> None:
    rows = read("transfer")["raw"]
    page = PAGE.read_text("utf-8")
    page = replaced(page, "transfer", transfer_table(rows))
    if (RESULTS / "ood.json").is_file():
        page = replaced(page, "ood", ood_table(read("ood")["raw"]))
    PAGE.write_text(page, "utf-8")
    PLOT.write_text(plot(rows), "utf-8")


def read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def replaced(page: str, name: str, text: str) -> str:
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if start not in page or end not in page:
        raise ValueError(f"{PAGE} has no marks {start} and {end}: put them where the table belongs")
    return re.sub(f"{start}.*{end}", lambda _: f"{start}\n{text}{end}", page, flags=re.DOTALL)


def transfer_table(rows: Rows) -> str:
    """Return a table with a row per data set and method, and a column per fraction.

    A cell has accuracy in percent and processor seconds; the last column has the memory in MiB.
    """
    fractions = sorted({row["fraction"] for row in rows})
    lines = ["| | " + " | ".join(f"{fraction:.0%} of the labels" for fraction in fractions) + " | MiB |"]
    lines.append("|" + "---|" * (len(fractions) + 2))
    for data, method in dict.fromkeys((row["data"], row["method"]) for row in sorted(rows, key=place)):
        by_fraction = {row["fraction"]: row for row in rows if (row["data"], row["method"]) == (data, method)}
        cells = [cell(by_fraction[fraction]) if fraction in by_fraction else "–" for fraction in fractions]
        largest = max(by_fraction.values(), key=lambda row: row["own_bytes"])
        lines.append(f"| {data}: {NAMES[method]} | " + " | ".join(cells) + f" | {memory(largest)} |")
    return "\n".join(lines) + "\n"


def memory(row: dict[str, Any]) -> str:
    return f"{row['own_bytes'] / 2**20:.0f} of {row['peak_bytes'] / 2**20:.0f}"


def place(row: dict[str, Any]) -> tuple[str, int]:
    return row["data"], list(NAMES).index(row["method"])


def cell(row: dict[str, Any]) -> str:
    text = f"{percent(row, 'accuracy')} ({row['processor_seconds']:.0f} s)"
    if "raw_accuracy" not in row:
        return text
    shipped, seeds = sum(run["is_tuned"] for run in row["runs"]), len(row["runs"])
    return f"{text}, shipped {shipped} of {seeds}, itself {percent(row, 'raw_accuracy')}"


def percent(row: dict[str, Any], name: str) -> str:
    width = row[f"{name}_half_width"]
    return f"{100 * row[name]:.1f}" + ("" if width is None else f" ± {100 * width:.1f}")


def ood_table(rows: Rows) -> str:
    lines = ["| | photographs | cartoons | seconds | MiB |", "|---|---|---|---|---|"]
    lines += [
        f"| {OOD_NAMES[row['method']]} | {percent(row, 'photo')} | {percent(row, 'cartoon')} | "
        f"{row['processor_seconds']:.0f} | {memory(row)} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def plot(rows: Rows) -> str:
    """Return an SVG for light and dark pages with a panel per data set.

    A panel shows held-out accuracy, with its interval, over the fraction of the labels.
    """
    sets = list(dict.fromkeys(row["data"] for row in sorted(rows, key=place)))
    width, height = len(sets) * (PANEL + MARGIN) + MARGIN, PANEL + 2 * MARGIN + 20
    parts = [
        panel([row for row in rows if row["data"] == data], data, left)
        for left, data in zip(range(MARGIN, width, PANEL + MARGIN), sets, strict=False)
    ]
    legend = [
        f'<text x="{MARGIN + 110 * number}" y="{height - 12}" style="fill:{COLOURS[method]}">{name}</text>'
        for number, (method, name) in enumerate(NAMES.items())
    ]
    style = (
        "text{font:12px sans-serif;fill:#444}.axis{stroke:#888;stroke-opacity:.4}"
        "@media(prefers-color-scheme:dark){text{fill:#ccc}}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    title = "<title>Held-out accuracy over the share of the labels, from scratch, head alone and fine-tuned</title>"
    return "\n".join([head, title, f"<style>{style}</style>", *parts, *legend, "</svg>"]) + "\n"


def panel(rows: Rows, data: str, left: int) -> str:
    fractions = sorted({row["fraction"] for row in rows})
    least, most = math.log(fractions[0]), math.log(fractions[-1])

    def x(fraction: float) -> float:
        return left + PANEL * (math.log(fraction) - least) / ((most - least) or 1)

    def y(accuracy: float) -> float:
        return MARGIN + PANEL * (1 - min(max(accuracy, 0), 1))

    parts = [f'<text x="{left}" y="{MARGIN - 16}" style="font-weight:bold">{data}</text>']
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<path class="axis" d="M{left} {y(tick):.1f}h{PANEL}"/>')
        parts.append(f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.0%}</text>')
    parts += [
        f'<text x="{x(fraction):.1f}" y="{MARGIN + PANEL + 18}" text-anchor="middle">{fraction:.0%}</text>'
        for fraction in fractions
    ]
    for method, colour in COLOURS.items():
        points = sorted((row["fraction"], row) for row in rows if row["method"] == method)
        if not points:
            continue
        line = " ".join(f"{x(fraction):.1f},{y(row['accuracy']):.1f}" for fraction, row in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for fraction, row in points:
            half = row["accuracy_half_width"] or 0.0
            low, high = y(row["accuracy"] - half), y(row["accuracy"] + half)
            parts.append(f'<path d="M{x(fraction):.1f} {low:.1f}V{high:.1f}" stroke="{colour}"/>')
            parts.append(f'<circle cx="{x(fraction):.1f}" cy="{y(row["accuracy"]):.1f}" r="3" fill="{colour}"/>')
    return "\n".join(parts)


if __name__ == "__main__":
    main()
