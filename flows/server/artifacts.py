"""Shows the result of a run on Prefect's page: verdict, metrics, confusion matrix, charts, the report's address."""

import base64
import csv
import io
import re
import socket
from collections import Counter
from typing import Any

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from flows.in_use.verdict import ADVICE, read_object, read_verdict
from flows.workspace import paths

CHART = re.compile(r'<svg class="chart[^>]*aria-label="(?P<label>[^"]*)".*?</svg>', re.DOTALL)
STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
# the report page has this style around a chart
ALONE = "svg { font-family: system-ui, sans-serif; background: var(--card) }"
MAX_CLASSES = 30  # of a confusion matrix that is shown; the report page has every one
MODELS = {"candidate": "candidate", "baseline": "model in use", "head": "head alone"}
SHOWN = ("accuracy", "macro_f1", "log_loss", "calibration_error")


def show() -> dict[str, Any]:
    """Post the artifacts, and return the verdict."""
    verdict = read_verdict()
    create_markdown_artifact(in_words(verdict), key="verdict", description="the gate's verdict, rule by rule")
    create_table_artifact(
        rows(read_object(paths.metrics(), advice=ADVICE)),
        key="comparison",
        description="candidate, head alone and model in use",
    )
    for target, matrix in confusions((paths.evaluation() / "confusion.csv").read_text("utf-8")).items():
        create_table_artifact(
            matrix, key=f"confusion-matrix-of-{key(target)}", description="true classes in rows, answers in columns"
        )
    report = paths.report()
    page = report.read_text("utf-8") if report.is_file() else ""
    for label, picture in charts(page):
        create_image_artifact(picture, key=key(label.partition(";")[0]), description=label)
    if page:
        # a browser follows no link from a server's page to a file: the address is shown so that a person can paste it
        address = report.resolve().as_uri()
        create_link_artifact(
            address, key="report", link_text=address, description=f"the report page, on {socket.gethostname()}"
        )
    return verdict


def in_words(verdict: dict[str, Any]) -> str:
    """Return the verdict as Markdown; names that come from the data are escaped."""
    baseline = verdict["baseline"]
    against = f"the model in use, `{baseline[:12]}`" if baseline else "the majority class and its own head alone"
    lines = [
        f"# The candidate is {verdict['verdict']}",
        "",
        f"`{verdict['candidate'][:12]}` against {against}, on {verdict['num_heldout']:,} held-out samples.",
        "",
        "| rule | value | limit | could have detected | outcome |",
        "|---|---|---|---|---|",
    ]
    for rule in sorted(verdict["rules"], key=lambda rule: bool(rule["passed"])):
        detectable = rule["smallest_detectable"]
        lines.append(
            f"| {plain(rule['name'])} | {rule['value']:.4g} | {rule['bound']} "
            f"| {'' if detectable is None else format(detectable, '.2g')} "
            f"| {'pass' if rule['passed'] else '**fail**'} |"
        )
    lines += [f"\nDid not pass: {plain(problem)}" for problem in verdict["problems"]]
    return "\n".join(lines)


def rows(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """Return a row for each target and model."""
    return [
        {"target": in_a_cell(target), "model": MODELS[model]}
        | {name.replace("_", " "): f"{measured[name]:.4f}" for name in SHOWN}
        | {"interval of accuracy": " to ".join(f"{end:.4f}" for end in measured["intervals"]["accuracy"])}
        for target, models in metrics.items()
        for model, measured in models.items()
        if model in MODELS
    ]


def confusions(table: str) -> dict[str, list[dict[str, str]]]:
    """Return the confusion matrix of each target, a row for each true class, where there are at most MAX_CLASSES.

    `table` is CSV with the columns target, label and candidate, a row for each held-out sample.
    """
    counts: dict[str, Counter[tuple[str, str]]] = {}
    for sample in csv.DictReader(io.StringIO(table, newline="")):
        counts.setdefault(sample["target"], Counter())[sample["label"], sample["candidate"]] += 1
    matrices = {}
    for target, cells in counts.items():
        names = sorted({name for pair in cells for name in pair})
        if len(names) <= MAX_CLASSES:
            matrices[target] = [
                {"class": in_a_cell(label)} | {f"as {in_a_cell(name)}": f"{cells[label, name]:,}" for name in names}
                for label in names
            ]
    return matrices


def in_a_cell(text: str) -> str:
    """Return the text for a cell of a table: one of Prefect's two pages renders it as HTML, the other does not."""
    return text.replace("<", "‹").replace(">", "›").replace("&", "+")


def key(text: str) -> str:
    """Return the text as a key of an artifact, which Prefect wants in small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unnamed"


def charts(page: str) -> list[tuple[str, str]]:
    """Return the label and the data URL of each chart of the report page."""
    style = "".join(STYLE.findall(page))
    return [
        (chart["label"], data_url(chart[0].replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1), style))
        for chart in CHART.finditer(page)
    ]


def data_url(svg: str, style: str) -> str:
    """Return a data URL of a drawing that has its style inside."""
    opening, content = svg.split(">", 1)
    picture = f"{opening}><style><![CDATA[{style}{ALONE}]]></style>{content}"
    return f"data:image/svg+xml;base64,{base64.b64encode(picture.encode()).decode('ascii')}"


def plain(text: str) -> str:
    """Return the text with all escaped that Markdown would render."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~-])", r"\\\1", " ".join(text.split()))
