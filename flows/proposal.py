"""Writes the text of a pull request for people who did not watch the run, and the facts that a CI job needs.

`python -m flows.proposal --since COMMIT --out FOLDER` compares with that commit. It writes FOLDER/body.md, and
FOLDER/facts.env with lines of NAME=value: `branch` (empty if there is nothing to propose), `title` and `verdict`. It
calls no forge: the CI file's last line does.
"""

import argparse
import sys
from pathlib import Path

from flows.workspace.dvc import DvcError
from flows.workspace.redaction import in_a_line
from tasks.machine.files import write_whole


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.proposal", description=__doc__)
    parser.add_argument("--since", required=True, metavar="COMMIT", help="the commit that the run began from")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="the folder of body.md and facts.env")
    parser.add_argument("--failed", action="store_true", help="say that the run failed")
    arguments = parser.parse_args()
    from flows.sharing.proposal import propose

    try:
        proposal = propose(arguments.since, has_failed=arguments.failed)
    except (OSError, ValueError, DvcError) as error:
        sys.exit(f"error: {in_a_line(error)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / "body.md", proposal.body.encode())
    write_whole(arguments.out / "facts.env", proposal.facts().encode())


if __name__ == "__main__":
    main()
