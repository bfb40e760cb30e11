"""What is in use: `python -m flows.promote` puts the accepted candidate there, `--rollback` a model that was there before.

A candidate needs a verdict that speaks of its very bytes, and a fresh process that loads it and predicts what evaluate did.
"""

import argparse
import subprocess
import sys

from flows.in_use.place import (
    settle_unfinished,
)
from flows.in_use.promotion import promote, roll_back
from flows.workspace.dvc import DvcError
from flows.workspace.hold import only_writer


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.promote", description=__doc__)
    parser.add_argument("--force", action="store_true", help="whatever the verdict; with --why")
    parser.add_argument("--why", help="the reason, which is kept in the log")
    parser.add_argument(
        "--rollback",
        nargs="?",
        const="",
        metavar="MODEL",
        help="to a model in use before, by its digest or version (v3); without MODEL the last",
    )
    given = parser.parse_args(arguments)
    if given.force and not (given.why or "").strip():
        parser.error("--force needs a --why")
    if given.rollback is not None and given.force:
        parser.error("--rollback needs no --force")
    try:
        with only_writer():
            if settle_unfinished(print):
                print("nothing else was done: run again for more")
                return
            if given.rollback is None:
                digest = promote(print, force=given.force, why=given.why)
            else:
                digest = roll_back(print, digest=given.rollback, why=given.why)
        print(f"in use now: {digest}; `dvc push` and `git push --follow-tags` give it to others")
    except (ValueError, OSError, DvcError, subprocess.TimeoutExpired) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
