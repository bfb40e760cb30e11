"""Takes new data: the batches of a landing become tracked and listed batches of this project, with an event for each.

`python -m flows.ingest LANDING` takes every whole batch, once. LANDING is a folder, or an address such as
s3://bucket/prefix.
"""

import argparse
from typing import Any

from flows.landing.options import MARKER, QUIET_SECONDS, check_quiet
from flows.server.secrets import add_option
from flows.workspace.guard import run_guarded
from flows.workspace.last_line import last_line
from flows.workspace.redaction import refuse_secrets


def __getattr__(name: str) -> Any:
    """Return the flow, which prefect.yaml names as flows.ingest.ingest; `--help` works without Prefect's import."""
    if name != "ingest":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from flows.server.ingestion import ingest

    return ingest


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.ingest", description="Take the batches that landed.")
    parser.add_argument("landing", help="a folder, or an address that fsspec knows: s3://bucket/prefix, gs://…")
    parser.add_argument(
        "--marker", default=MARKER, metavar="NAME", help="the file that makes its batch whole (default: %(default)s)"
    )
    parser.add_argument(
        "--quiet-seconds",
        type=float,
        default=QUIET_SECONDS,
        metavar="SECONDS",
        help="a batch without the marker is whole after so long without a change (default: %(default)s)",
    )
    add_option(parser)
    arguments = vars(parser.parse_args())
    try:
        refuse_secrets(arguments["landing"])
        check_quiet(arguments["quiet_seconds"])
    except ValueError as error:
        parser.error(str(error))
    run_guarded(lambda: run(**arguments | {"secrets": dict(arguments["secrets"])}))


def run(**arguments: Any) -> int:
    """Run the flow, print the next step, and return the exit status."""
    show = last_line()
    from flows.in_use.next_step import after_ingest
    from flows.server.ingestion import ingest
    from flows.server.reach import check_server_of_a_run

    check_server_of_a_run()
    state = ingest(**arguments, return_state=True)
    if state.is_completed():
        show(after_ingest())
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    main()
