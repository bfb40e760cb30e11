"""Name the next step for a person, and the place of the page: the last line of a run."""

from collections.abc import Mapping
from typing import Any

from flows.in_use.place import recorded
from flows.in_use.verdict import may_promote, read_verdict
from flows.workspace import paths
from flows.workspace.batches import listed


def after_retraining() -> str:
    """Return the last line of a run whose candidate was judged, or that had nothing to do."""
    if not paths.verdict().is_file():
        return f"next: list a batch in {paths.batches()}"
    return f"the page is {paths.report()}; next: {next_command(read_verdict())}"


def next_command(verdict: Mapping[str, Any]) -> str:
    """Return the command that follows from a verdict, with its effect."""
    if verdict["candidate"] == (recorded() or {}).get("model_sha256"):
        return "new data; `graftline predict FILE…` asks the candidate, which is in use"
    if may_promote(verdict):
        return "`graftline promote` puts the candidate in use"
    if verdict["verdict"] == "undecided":
        return (
            "land more data; or look at the page, and put the candidate in use by `graftline promote --force --why '…'`"
        )
    return (
        "mend the data or change params.yaml, then run again; or put the candidate in use all the same, by "
        "`graftline promote --force --why '…'`"
    )


def after_ingest() -> str:
    """Return the last line of a run that took data."""
    if not listed():
        return f"next: let a first batch land; {paths.batches()} lists none yet"
    start = [paths.start_record(), paths.start_pointer()] if paths.start_pointer().is_file() else []
    files = ", ".join(map(str, [paths.batches(), *start]))
    return (
        f"next: commit {files} and {paths.raw()}/*.dvc, then `graftline retrain`, whose page will be {paths.report()}"
    )
