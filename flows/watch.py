"""Compares the answers of the model in use with its training, window by window: `graftline watch PREDICTIONS…`.

PREDICTIONS are files that `graftline predict` wrote, and folders of the log of `graftline serve`. Labels that came
later show how often the answers were right. The page and the JSON lie in data/watch.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from flows.workspace.redaction import in_a_line


def __getattr__(name: str) -> Any:
    """Return the flow, which a plan names as flows.watch.watch; `--help` works without Prefect's import."""
    if name != "watch":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from flows.server.watching import watch

    return watch


def main(words: list[str] | None = None) -> None:
    arguments = parser().parse_args(words)
    options = {
        name: getattr(arguments, name) for name in ("labels", "reference", "window", "every", "false_alarms")
    }  # fmt: skip
    if arguments.event:
        from flows.workspace.guard import run_guarded

        run_guarded(lambda: run(predictions=arguments.predictions, **options))
    from flows.in_use.drift import compare
    from flows.workspace import paths

    try:
        status = compare(arguments.predictions, out=arguments.out, **options)
        if status == 0:
            sys.stdout.write(f"the page: {(arguments.out or paths.watched()) / 'watch.html'}\n")
        sys.exit(status)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {in_a_line(error)}")


def run(**arguments: Any) -> int:
    """Run the flow, and return the exit status."""
    from flows.server.reach import check_server_of_a_run
    from flows.server.watching import watch

    check_server_of_a_run()
    return 0 if watch(**arguments, return_state=True).is_completed() else 1


def parser() -> argparse.ArgumentParser:
    """Return the parser of this door."""
    command = argparse.ArgumentParser(prog="graftline watch", description=__doc__)
    command.add_argument("predictions", nargs="+", help="files of answers, and folders of a service's log")
    command.add_argument(
        "--labels", action="append", default=[], metavar="FILE",
        help="labels that came later: CSV or Parquet with sample_id and a column a target; may be given again",
    )  # fmt: skip
    command.add_argument(
        "--reference", metavar="FILE", help="answers to trusted samples to compare with; default: the held-out samples"
    )
    command.add_argument(
        "--window", type=int, default=500, help="answers of a window, at least 30; default: %(default)s"
    )
    command.add_argument(
        "--every", metavar="PERIOD", help="windows of time instead, such as 1h or 1d, by the answers' times"
    )
    command.add_argument(
        "--false-alarms", type=float, default=0.01,
        help="the share of windows without a drift that may raise an alarm; default: %(default)s",
    )  # fmt: skip
    place = command.add_mutually_exclusive_group()
    place.add_argument("--out", type=Path, help="the folder of the page and the JSON; default: data/watch")
    place.add_argument(
        "--event", action="store_true", help="run as a flow, which sends answers.drifted about each window once"
    )
    return command


if __name__ == "__main__":
    main()
