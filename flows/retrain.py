"""Brings the pipeline of dvc.yaml up to date: `python -m flows.retrain` does it once.

On request the candidate is then put in use, and all of it is published. A rejected candidate fails the run, after its
artifacts are posted.
"""

import argparse
import os
import sys
import threading
from contextlib import suppress
from typing import Any

from flows.server.secrets import add_option
from flows.workspace.guard import run_guarded
from flows.workspace.last_line import last_line


def __getattr__(name: str) -> Any:
    """Return the flow, which prefect.yaml names as flows.retrain.retrain; `--help` works without Prefect's import."""
    if name != "retrain":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from flows.server.retraining import retrain

    return retrain


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.retrain", description=__doc__)
    parser.add_argument(
        "--promote",
        choices=["never", "accepted"],
        default="never",
        help="accepted: put the candidate in use if the gate accepts it (default: never)",
    )
    parser.add_argument(
        "--publish-to",
        choices=["no", "branch", "main"],
        default="no",
        help="push data and models to the DVC remote and the commit to git's, to a branch of the candidate's own or to "
        "the branch that is checked out (default: no)",
    )
    parser.add_argument(
        "--wait-minutes",
        type=float,
        default=0.0,
        metavar="MINUTES",
        help="wait so long for another run in this workspace (default: 0)",
    )
    parser.add_argument(
        "--train",
        choices=["always", "when_worth_it"],
        default="always",
        help="when_worth_it: train only where new batches are large or different enough (default: always)",
    )
    parser.add_argument("--pull", action="store_true", help="in a clone without data, pull what the stages need")
    add_option(parser)
    arguments = vars(parser.parse_args())
    run_guarded(lambda: run(**arguments | {"secrets": dict(arguments["secrets"])}))


def run(**arguments: Any) -> int:
    """Run the flow, print the next step, and return the exit status."""
    show = last_line()
    from flows.in_use.next_step import after_retraining

    if not (arguments["pull"] or arguments["secrets"] or arguments["publish_to"] != "no") and is_idle():
        sys.stdout.write("nothing to do\n")
        show(after_retraining())
        return 0
    from flows.in_use.verdict import REJECTED
    from flows.server.reach import check_server_of_a_run
    from flows.server.retraining import retrain

    check_server_of_a_run()
    state = retrain(**arguments, return_state=True)
    if state.is_completed() or (state.message or "").startswith(REJECTED):
        show(after_retraining())
    return 0 if state.is_completed() else 1


def is_idle() -> bool:
    """Return whether the flow would have nothing to do, and no server to report that to.

    A temporary server takes longer to start than DVC to check all stages. If there is a problem, the flow reports it.
    """
    if os.environ.get("PREFECT_API_URL"):
        return False

    def read_settings() -> None:
        with suppress(Exception):  # it is raised again below
            import prefect.settings  # noqa: F401

    settings = threading.Thread(target=read_settings)  # while DVC looks at everything
    settings.start()
    try:
        is_current = is_up_to_date()
    finally:
        settings.join()
    from prefect.settings import get_current_settings

    return is_current and not get_current_settings().api.url


def is_up_to_date() -> bool:
    """Return whether every stage is up to date and no candidate waits for a decision; False where that is unknown."""
    from flows.in_use.place import settle_unfinished
    from flows.in_use.verdict import UNDECIDED
    from flows.workspace.dvc import DvcError, answer_of
    from flows.workspace.hold import only_writer
    from flows.workspace.parameters import check_parameters

    def log(line: str) -> None:
        sys.stdout.write(f"{line}\n")

    try:
        with only_writer(log=log):
            settle_unfinished(log)
            check_parameters()
            return not UNDECIDED.exists() and answer_of("status", "--json") == ["{}"]
    except (OSError, ValueError, DvcError):
        return False


if __name__ == "__main__":
    main()
