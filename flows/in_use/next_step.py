"""What a person does next, and where the page is: the last line of a run."""

from flows.in_use.place import recorded
from flows.in_use.verdict import read_verdict
from flows.workspace import paths
from flows.workspace.batches import listed


def after_retraining() -> str:
    """Return the last line of a run whose candidate was judged, or that had nothing to do."""
    if not paths.verdict().is_file():
        return f"next: list a batch in {paths.batches()}"
    page = f"the page is {paths.report()}"
    verdict = read_verdict()
    if verdict["candidate"] == (recorded() or {}).get("model_sha256"):
        return f"{page}; the candidate is in use; next: new data"
    if verdict["verdict"] == "accepted":
        return f"{page}; next: `python -m flows.promote` puts the candidate in use"
    return (
        f"{page}; next: mend the data or change params.yaml, then run again; or put the candidate in use all the same, "
        "by `python -m flows.promote --force --why '…'`"
    )


def after_ingest() -> str:
    """Return the last line of a run that took data."""
    if not listed():
        return f"next: let a first batch land; {paths.batches()} lists none yet"
    return (
        f"next: commit {paths.batches()} and {paths.raw()}/*.dvc, then `python -m flows.retrain`, "
        f"whose page will be {paths.report()}"
    )
