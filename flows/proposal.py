"""What a run changed, for people who did not watch it: a commit to compare with in; the text of a pull request, and what a CI job asks
about it, out.

`python -m flows.proposal --since COMMIT --out FOLDER` writes FOLDER/body.md and FOLDER/facts.env, lines of NAME=value: `branch` (empty
where there is nothing to propose), `title`, `verdict`. It calls no forge: one last line of the CI file does.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from flows.in_use.verdict import read_verdict
from flows.server.artifacts import SHOWN, in_words, plain
from flows.sharing.publish import OWED, branch_of_candidate
from flows.workspace import paths
from flows.workspace.dvc import DvcError, lines_of
from flows.workspace.git import changed_files, is_at_remote
from flows.workspace.redaction import in_a_line


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A pull request that could be opened, and its text."""

    branch: str  # empty where there is none
    title: str
    verdict: str  # accepted, rejected, or none
    body: str  # Markdown

    def facts(self) -> str:
        """A line each, whatever they hold: a CI job takes every line for a fact."""
        return "".join(f"{name}={' '.join(getattr(self, name).split())}\n" for name in ("branch", "title", "verdict"))


class Row(NamedTuple):
    """A metric, as it is written."""

    name: str
    before: str
    now: str
    difference: str


def propose(since: str, *, has_failed: bool = False) -> Proposal:
    """What lies between a commit and this workspace, after a run that may have failed. Raises ValueError where git does not know the
    commit, or the remote cannot be asked; DvcError where the metrics cannot be read."""
    changed = changed_files(since)
    if not paths.verdict().is_file():
        said = (
            "The run failed before its candidate was judged: its log tells why."
            if has_failed
            else "Nothing was to be done."
        )
        return Proposal(branch="", title="Nothing to propose", verdict="none", body=f"{said}\n")
    verdict = read_verdict()
    branch = branch_of_candidate()
    body = [in_words(verdict), "", *compared(since), "", *consequences(verdict["verdict"], changed=changed)]
    is_proposed = bool(changed) and not OWED.exists() and is_at_remote(branch)
    return Proposal(
        branch=branch if is_proposed else "",
        title=f"Retrained: {verdict['candidate'][:12]} is {verdict['verdict']}",
        verdict=verdict["verdict"],
        body="\n".join(body) + "\n",
    )


def compared(since: str) -> list[str]:
    """The candidate's metrics, as they were at that commit and as they are."""
    found = rows(metrics_difference(since))
    if not found:
        return [f"No metric differs from {since[:12]}."]
    shown = [row for row in found if is_headline(row.name)]
    others = [row for row in found if not is_headline(row.name)]
    lines = [f"## Metrics since {since[:12]}", ""]
    lines += table(shown) if shown else ["None of accuracy, macro F1, log-loss and calibration error differs."]
    if others:
        lines += ["", f"<details><summary>{len(others)} others</summary>", "", *table(others), "", "</details>"]
    return lines


def metrics_difference(since: str) -> dict[str, Any]:
    """By name: `old`, `new` and `diff`, each where it is known. What is not here is read from the DVC remote."""
    printed = [line for line in lines_of("metrics", "diff", "--json", since) if line.startswith("{")]
    by_file: dict[str, dict[str, Any]] = json.loads(printed[-1]) if printed else {}
    return {name: found for metrics in by_file.values() for name, found in metrics.items()}


def rows(difference: dict[str, Any]) -> list[Row]:
    """In the order of their names."""
    return [
        Row(
            name=name,
            before=number(found.get("old")),
            now=number(found.get("new")),
            difference=number(found.get("diff"), sign="+"),
        )
        for name, found in sorted(difference.items())
    ]


def number(value: Any, *, sign: str = "") -> str:
    """Four decimals; a whole number has none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:{sign}.4f}".removesuffix(".0000")
    return "" if value is None else plain(str(value))


def is_headline(name: str) -> bool:
    """Such as `label.candidate.accuracy`."""
    _, _, rest = name.rpartition(".candidate.")
    return rest in SHOWN


def table(found: list[Row]) -> list[str]:
    head = ["| metric | before | now | difference |", "|---|---|---|---|"]
    return [*head, *(f"| {plain(row.name)} | {row.before} | {row.now} | {row.difference} |" for row in found)]


def consequences(verdict: str, *, changed: list[str]) -> list[str]:
    """What merging does."""
    if not changed:
        return ["No file changed: there is nothing to merge."]
    files = ", ".join(f"`{name}`" for name in changed)
    if paths.baseline_record().as_posix() in changed:
        return [f"Merging takes {files}, and with them another model in use."]
    if verdict == "accepted":
        return [f"Merging takes {files}. The model in use stays until `python -m flows.promote` is run on it."]
    return [f"Merging takes {files}, so that the verdict is kept. The model in use stays."]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.proposal", description=__doc__)
    parser.add_argument("--since", required=True, metavar="COMMIT", help="what the run began from")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where body.md and facts.env go")
    parser.add_argument("--failed", action="store_true", help="the run did")
    given = parser.parse_args()
    try:
        proposal = propose(given.since, has_failed=given.failed)
    except (OSError, ValueError, DvcError) as error:
        sys.exit(f"error: {in_a_line(error)}")
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "body.md").write_text(proposal.body, "utf-8")
    (given.out / "facts.env").write_text(proposal.facts(), "utf-8")


if __name__ == "__main__":
    main()
