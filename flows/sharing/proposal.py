"""The text of a pull request for people who did not watch the run, and the facts that a CI job needs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from flows.in_use.verdict import may_promote, read_verdict
from flows.server.artifacts import SHOWN, in_words, plain
from flows.sharing.publish import OWED, branch_of_candidate
from flows.workspace import paths
from flows.workspace.dvc import answer_of
from flows.workspace.git import changed_files, fetch_lacking, is_at_remote


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """The text of a pull request, and the branch to open it from."""

    branch: str  # empty if there is nothing to propose
    title: str
    verdict: str  # accepted, undecided, rejected, or none
    body: str  # Markdown

    def facts(self) -> str:
        """Return a line for each fact, even if a value has several lines: a CI job reads every line as a fact."""
        return "".join(f"{name}={' '.join(getattr(self, name).split())}\n" for name in ("branch", "title", "verdict"))


class Row(NamedTuple):
    """A metric, as the pull request shows it."""

    name: str
    before: str
    now: str
    difference: str


def propose(since: str, *, has_failed: bool = False) -> Proposal:
    """Return the proposal of all that changed between a commit and this workspace, after a run that may have failed.

    Raises:
        ValueError: git does not know the commit, or cannot reach the remote.
        DvcError: DVC cannot read the metrics.
    """
    changed = changed_files(since)
    if not paths.verdict().is_file():
        failure = "The run failed before its candidate was judged: its log has the reason."
        text = failure if has_failed else "There was nothing to do."
        return Proposal(branch="", title="Nothing to propose", verdict="none", body=f"{text}\n")
    verdict = read_verdict()
    branch = branch_of_candidate()
    body = [in_words(verdict), "", *compared(since), "", *consequences(verdict, changed=changed)]
    is_proposed = bool(changed) and not OWED.exists() and is_at_remote(branch)
    return Proposal(
        branch=branch if is_proposed else "",
        title=f"Retrained: {verdict['candidate'][:12]} is {verdict['verdict']}",
        verdict=verdict["verdict"],
        body="\n".join(body) + "\n",
    )


def compared(since: str) -> list[str]:
    """Return the candidate's metrics at that commit and now, as lines of Markdown."""
    differing = rows(metrics_difference(since))
    if not differing:
        return [f"No metric differs from {since[:12]}."]
    headlines = [row for row in differing if is_headline(row.name)]
    others = [row for row in differing if not is_headline(row.name)]
    lines = [f"## Metrics since {since[:12]}", ""]
    lines += table(headlines) if headlines else ["No accuracy, macro F1, log-loss, calibration error or error differs."]
    if others:
        lines += ["", f"<details><summary>{len(others)} others</summary>", "", *table(others), "", "</details>"]
    return lines


def metrics_difference(since: str) -> dict[str, Any]:
    """Return `old`, `new` and `diff` of each metric, as far as known. Missing files are read from the DVC remote."""
    fetch_lacking(since)
    printed = [line for line in answer_of("metrics", "diff", "--json", since) if line.startswith("{")]
    by_file: dict[str, dict[str, Any]] = json.loads(printed[-1]) if printed else {}
    return {name: values for metrics in by_file.values() for name, values in metrics.items()}


def rows(difference: dict[str, Any]) -> list[Row]:
    """Return a row for each metric, sorted by name."""
    return [
        Row(
            name=name,
            before=number(values.get("old")),
            now=number(values.get("new")),
            difference=number(values.get("diff"), sign="+"),
        )
        for name, values in sorted(difference.items())
    ]


def number(value: Any, *, sign: str = "") -> str:
    """Return a number with four decimals, or none if it is whole."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:{sign}.4f}".removesuffix(".0000")
    return "" if value is None else plain(str(value))


def is_headline(name: str) -> bool:
    """Return whether the metric is one of those shown first, such as `label.candidate.accuracy`."""
    _, _, rest = name.rpartition(".candidate.")
    return rest in SHOWN


def table(rows: list[Row]) -> list[str]:
    """Return a table of Markdown."""
    head = ["| metric | before | now | difference |", "|---|---|---|---|"]
    return [*head, *(f"| {plain(row.name)} | {row.before} | {row.now} | {row.difference} |" for row in rows)]


def consequences(verdict: Mapping[str, Any], *, changed: list[str]) -> list[str]:
    """Return the consequences of a merge, as lines of Markdown."""
    if not changed:
        return ["No file changed: there is nothing to merge."]
    files = ", ".join(f"`{name}`" for name in changed)
    if paths.baseline_record().as_posix() in changed:
        return [f"Merging takes {files}, and with them another model in use."]
    if may_promote(verdict):
        return [f"Merging takes {files}. The model in use stays until `python -m flows.promote` is run on it."]
    stays = f"Merging takes {files}, so that the verdict is kept. The model in use stays"
    if verdict["verdict"] == "undecided":
        return [f"{stays} until a person runs `python -m flows.promote --force --why '…'` on it, or more data decide."]
    return [f"{stays}."]
