"""Shows the result of a run on Prefect's page: the verdict, a table of metrics, the plots, the report's address."""

import base64
import re
import socket
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
    report = paths.report()
    page = report.read_text("utf-8") if report.is_file() else ""
    for number, (label, picture) in enumerate(charts(page), start=1):
        create_image_artifact(picture, key=f"plot-{number}", description=label)
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
    against = f"the model in use, `{baseline[:12]}`" if baseline else "no model in use: the floors alone judge"
    lines = [
        f"# The candidate is {verdict['verdict']}",
        "",
        f"`{verdict['candidate'][:12]}` against {against}, on {verdict['num_heldout']:,} held-out samples.",
        "",
        "| rule | found | limit | could have detected | |",
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
    """Return a row for each target and model.

    Angle brackets are replaced: one of Prefect's two pages renders the cells of a table as HTML, the other does not.
    """
    return [
        {"target": target.replace("<", "‹").replace(">", "›").replace("&", "+"), "model": model}
        | {name: f"{measured[name]:.4f}" for name in SHOWN}
        | {"interval": " to ".join(f"{end:.4f}" for end in measured["intervals"]["accuracy"])}
        for target, models in metrics.items()
        for model, measured in models.items()
        if "accuracy" in measured
    ]


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
