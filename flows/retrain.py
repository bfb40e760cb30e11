"""Brings the pipeline of dvc.yaml up to date: `python -m flows.retrain` does it once.

On request the candidate is then put in use, and all of it is published. A rejected candidate fails the run, after its
artifacts are posted.
"""

import argparse
from typing import Any

from flows.server.secrets import add_option
from flows.workspace.guard import run_guarded
from flows.workspace.last_line import last_line


def __getattr__(name: str) -> Any:
    """Return the flow, which prefect.yaml names as flows.retrain.retrain; `--help` need not wait for Prefect."""
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
    """Run the flow, print what is next, and return the exit status."""
    show = last_line()
    from flows.in_use.next_step import after_retraining
    from flows.in_use.verdict import REJECTED
    from flows.server.reach import check_server_of_a_run
    from flows.server.retraining import retrain

    check_server_of_a_run()
    state = retrain(**arguments, return_state=True)
    if state.is_completed() or (state.message or "").startswith(REJECTED):
        show(after_retraining())
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    main()
