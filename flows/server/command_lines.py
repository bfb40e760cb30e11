"""The command lines of the doors that import Prefect, which takes a second: their --help need not wait for it."""

import ast
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

from flows.server.secrets import add_option

FLOWS = Path(__file__).parents[1]
MARKER = "_COMPLETE"
QUIET_SECONDS = 300.0


def parser_of(door: str) -> ArgumentParser:
    """Return the parser of a door such as `retrain`."""
    description = ast.get_docstring(ast.parse((FLOWS / f"{door}.py").read_bytes()))
    parser = ArgumentParser(prog=f"python -m flows.{door}", description=description)
    ADD_ARGUMENTS[door](parser)
    return parser


def show_help(words: list[str]) -> None:
    """Print the help of the door that `python -m flows.DOOR --help` names, and exit; do nothing for another command.

    Args:
        words: of the command line, with those for Python itself.
    """
    package, _, door = words[words.index("-m") + 1].partition(".") if "-m" in words[:-1] else ("", "", "")
    if package == "flows" and door in ADD_ARGUMENTS:
        parser_of(door).print_help()
        sys.exit()


def _retrain(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--promote", choices=("never", "accepted"), default="never", help="put the candidate in use (default: never)"
    )
    parser.add_argument(
        "--publish-to", choices=("no", "branch", "main"), default="no", help="give the result to others (default: no)"
    )
    parser.add_argument(
        "--wait-minutes", type=float, default=0.0, help="wait for another run in this workspace (default: 0)"
    )
    parser.add_argument("--pull", action="store_true", help="in a clone without data, pull what the stages need")
    add_option(parser)


def _ingest(parser: ArgumentParser) -> None:
    parser.add_argument("landing", help="a folder, or an address that fsspec knows: s3://bucket/prefix, gs://…")
    parser.add_argument("--marker", default=MARKER, help="the file that makes its batch whole (default: %(default)s)")
    parser.add_argument(
        "--quiet-seconds",
        type=float,
        default=QUIET_SECONDS,
        help="a batch without the marker is whole after so long without a change (default: %(default)s)",
    )
    add_option(parser)


def _notify(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--block",
        metavar="TYPE/NAME",
        help="a saved notification block, instead of GRAFTLINE_WEBHOOK and GRAFTLINE_EMAIL",
    )


def _proposal(parser: ArgumentParser) -> None:
    parser.add_argument("--since", required=True, metavar="COMMIT", help="the commit that the run began from")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="the folder of body.md and facts.env")
    parser.add_argument("--failed", action="store_true", help="say that the run failed")


ADD_ARGUMENTS: dict[str, Callable[[ArgumentParser], None]] = {
    "retrain": _retrain,
    "ingest": _ingest,
    "serve": lambda parser: None,
    "deploy": lambda parser: None,
    "notify": _notify,
    "proposal": _proposal,
}
