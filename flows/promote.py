"""Puts a model in use: `python -m flows.promote` takes the accepted candidate, `--rollback` an earlier model.

A candidate needs a verdict about its very bytes. And a fresh process must load it and predict the same as evaluate.
"""

import argparse
import subprocess
import sys

from flows.in_use.place import settle_unfinished
from flows.in_use.promotion import promote, roll_back
from flows.workspace.dvc import DvcError
from flows.workspace.hold import only_writer
from flows.workspace.redaction import in_a_line


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m flows.promote",
        usage="%(prog)s [-h] [--force] [--why WHY] [--rollback [MODEL]]\n"
        "       graftline promote [--force] [--why WHY]\n       graftline rollback [MODEL] [--why WHY]",
        description=__doc__,
    )
    parser.add_argument("--force", action="store_true", help="promote without an accepting verdict; needs --why")
    parser.add_argument("--why", help="the reason, which the log keeps")
    parser.add_argument(
        "--rollback",
        nargs="?",
        const="",
        metavar="MODEL",
        help="go back to a model by its digest or version (v3); without MODEL to the one before",
    )
    arguments = parser.parse_args(words)
    if arguments.force and not (arguments.why or "").strip():
        parser.error("--force needs a --why")
    if arguments.rollback is not None and arguments.force:
        parser.error("--rollback needs no --force")
    try:
        with only_writer(log=print):
            if settle_unfinished(print):
                print("nothing else was done: run again for more")
                return
            if arguments.rollback is None:
                digest = promote(print, force=arguments.force, why=arguments.why)
            else:
                digest = roll_back(print, name=arguments.rollback, why=arguments.why)
        print(f"in use now: {digest}; `dvc push` and `git push --follow-tags` give it to others")
    except (ValueError, OSError, DvcError, subprocess.TimeoutExpired) as error:
        sys.exit(f"error: {in_a_line(error)}")


if __name__ == "__main__":
    main()
