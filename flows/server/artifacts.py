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

from flows.in_use.domains import domains
from flows.in_use.measures import LOGGED, error_in_words
from flows.in_use.verdict import ADVICE, may_promote, read_object, read_verdict
from flows.workspace import paths
from tasks.machine.names import on_one_line, plotted, without_markup

CHART = re.compile(r'<svg class="chart[^>]*aria-label="(?P<label>[^"]*)".*?</svg>', re.DOTALL)
STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
# the report page has this style around a chart
ALONE = "svg { font-family: system-ui, sans-serif; background: var(--card) }"
MAX_CLASSES = 30  # of a confusion matrix that is shown; the report page has every one
MODELS = {"candidate": "candidate", "baseline": "model in use", "head": "head alone"}
WORD_JOINER = "\u2060"  # it cannot be seen
SHOWN = (*LOGGED, "error")  # the error is that of targets of other kinds than classes


def show() -> dict[str, Any]:
    """Post the artifacts, and return the verdict."""
    verdict = read_verdict()
    metrics = read_object(paths.metrics(), advice=ADVICE)
    create_markdown_artifact(in_words(verdict), key="verdict", description="the gate's verdict, rule by rule")
    create_table_artifact(
        rows(metrics),
        key="comparison",
        description="candidate, head alone and model in use",
    )
    if adapted := domains(metrics):
        table = [{column: without_markup(value) for column, value in row.items()} for row in adapted]
        create_table_artifact(
            table,
            key="domains",
            description="domains to adapt to; probabilities are not calibrated on those that are adapted",
        )
    confused = (paths.evaluation() / "confusion.csv").read_text("utf-8")
    for target, matrix in confusions(confused, names=names_of(metrics)).items():
        create_table_artifact(
            matrix, key=f"confusion-matrix-of-{key(target)}", description="true classes in rows, answers in columns"
        )
    report = paths.report()
    page = report.read_text("utf-8") if report.is_file() else ""
    for label, picture in charts(page):
        create_image_artifact(picture, key=key(label.partition(";")[0]), description=plain(label))
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
        detectable, unit = rule["smallest_detectable"], rule.get("unit")
        effect = "" if detectable is None else f"{detectable:.2g}"
        if effect and unit:
            effect = plain(error_in_words(detectable, unit))
        lines.append(
            f"| {plain(rule['name'])} | {rule['value']:.4g} | {rule['bound']} "
            f"| {effect} "
            f"| {'pass' if rule['passed'] else '**fail**'} |"
        )
    lines += [f"\nUndecided: {plain(doubt)}" for doubt in verdict.get("doubts", [])]
    if verdict["verdict"] == "undecided":
        passes = "It may be put in use all the same." if may_promote(verdict) else "It waits for a person."
        lines.append(f"\n{passes}")
    lines += [f"\nDid not pass: {plain(problem)}" for problem in verdict["problems"]]
    return "\n".join(lines)


def rows(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """Return a row for each target and model. All rows have the same columns, some of them empty."""
    table = [
        {"target": without_markup(target), "model": MODELS[model]} | cells(measured, unit=models.get("unit"))
        for target, models in metrics.items()
        for model, measured in models.items()
        if model in MODELS
    ]
    columns = dict.fromkeys(name for row in table for name in row)
    return [{name: row.get(name, "") for name in columns} for row in table]


def cells(measured: dict[str, Any], *, unit: str | None) -> dict[str, str]:
    """Return the table's cells for a model: four metrics of classes, or the error of a target of another kind."""
    intervals = measured.get("intervals", {})
    if unit is not None:
        return {"error": without_markup(error_in_words(measured["error"], unit, interval=intervals.get("error")))}
    return {name.replace("_", " "): f"{measured[name]:.4f}" for name in LOGGED if name in measured} | {
        "interval of accuracy": " to ".join(f"{end:.4f}" for end in intervals["accuracy"])
    }


def names_of(metrics: dict[str, Any]) -> dict[str, list[str]]:
    """Return, for each target with a confusion matrix, the steps in the order of their scale; classes have none."""
    kinds = {target: models.get("kind", "classes") for target, models in metrics.items()}
    about = read_object(paths.candidate() / "model.json", advice=ADVICE) if "ordinal" in kinds.values() else {}
    return {
        target: about["classes"][target]["steps"] if kind == "ordinal" else []
        for target, kind in kinds.items()
        if kind in ("classes", "ordinal")
    }


def confusions(table: str, *, names: dict[str, list[str]]) -> dict[str, list[dict[str, str]]]:
    """Return the confusion matrix of each target, a row for each true class, where there are at most MAX_CLASSES.

    Args:
        table: CSV with the columns target, label and candidate, a row for each held-out sample.
        names: the names in order, of each target that has a matrix; others follow in the order of the alphabet.
    """
    counts: dict[str, Counter[tuple[str, str]]] = {}
    for sample in csv.DictReader(io.StringIO(table, newline="")):
        counts.setdefault(sample["target"], Counter())[sample["label"], sample["candidate"]] += 1
    matrices = {}
    for target, order in names.items():
        pairs = counts.get(plotted(target), Counter())
        known = list(dict.fromkeys([*map(plotted, order), *sorted({name for pair in pairs for name in pair})]))
        if pairs and len(known) <= MAX_CLASSES:
            shown = {name: without_markup(name) for name in known}
            matrices[target] = [
                {"class": shown[label]} | {f"as {shown[name]}": f"{pairs[label, name]:,}" for name in known}
                for label in known
            ]
    return matrices


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
    """Return the text with Markdown's signs escaped; the word joiner behind an @ keeps it from calling a person."""
    escaped = re.sub(r"([\\`*_{}\[\]<>()#+!|~-])", r"\\\1", on_one_line(" ".join(text.split())))
    return escaped.replace("@", f"@{WORD_JOINER}")
