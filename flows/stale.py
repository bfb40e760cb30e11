"""Checks in a clone without data that its pipeline is whole, and names the first stage that a retraining would run.

`python -m flows.stale` is the check of a pull request. It asks `dvc repro --dry --allow-missing` and `dvc data status`,
needs no data and no password, and fails where a retraining could not even begin.
"""

import argparse
import re
import sys

from flows.workspace import paths
from flows.workspace.batches import digest_of, listed
from flows.workspace.dvc import QUESTION_SECONDS, DvcError, answer_of, lines_of
from flows.workspace.parameters import check_parameters
from flows.workspace.redaction import in_a_line

RUNS = re.compile(r"(?:Running stage|Stage) '(?P<stage>[^']+)'(?::| is cached)")
LACKS_DATA = re.compile(
    r"failed to reproduce '(?P<stage>[^']+)': (?:\[Errno 2\]|.*missing data|.*does not exist as an output)"
)


def first_stale() -> str | None:
    """Return the first stage that a retraining would run; None if no stage is stale or no batch is listed.

    Raises:
        ValueError: DVC does not track a listed batch, or params.yaml is wrong.
        DvcError: DVC cannot read its files.
    """
    batches = listed()
    check_parameters(has_batches=bool(batches))
    if untracked := [name for name in batches if not digest_of(name)]:
        raise ValueError(
            f"{paths.batches()} lists {', '.join(untracked)} without a .dvc file in {paths.raw()}: "
            "`dvc add` each batch, and commit its .dvc file"
        )
    answer_of("data", "status", "--json")  # it fails if DVC cannot read one of its files
    if not batches:  # DVC takes an empty list for a mistake
        return None
    first = None
    try:
        # to its end: a DVC that is killed leaves its list of locks torn, which stops the next one
        for line in lines_of("repro", "--dry", "--allow-missing", seconds=QUESTION_SECONDS):
            if not first and (runs := RUNS.match(line)):
                first = runs["stage"]
    except DvcError as error:
        # without data a dry run stops at the first stage that it would run
        if not first:
            if not (lacks_data := LACKS_DATA.search(str(error))):
                raise
            first = lacks_data["stage"]
    return first


def main() -> None:
    argparse.ArgumentParser(prog="python -m flows.stale", description=__doc__).parse_args()
    try:
        stage = first_stale()
    except (OSError, ValueError, DvcError) as error:
        sys.exit(f"error: {in_a_line(error)}")
    work = f"would begin with {stage}" if stage else "would have nothing to do"
    sys.stdout.write(f"a retraining {work if listed() else 'waits for a first batch'}\n")


if __name__ == "__main__":
    main()
