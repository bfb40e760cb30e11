"""Lists a batch, and records the model from which its training goes on."""

from flows.in_use.start import record_start
from flows.landing.copies import Log
from flows.workspace.batches import append, listed


def enlist(batch: str, *, log: Log) -> None:
    """Add the batch to the end of the list, unless it is listed.

    Raises ValueError as `append` and `record_start` do.
    """
    if batch not in listed():
        record_start(log)
        append(batch)
