"""A clone without data in; whether its pipeline is whole, and which stage a retraining would begin with, out.

`python -m flows.stale` is the check of a pull request: it asks `dvc repro --dry --allow-missing` and `dvc data status`, needs no data
and no password, and fails where a retraining could not even begin.
"""

import re
import sys

from flows.workspace import paths
from flows.workspace.batches import digest_of, listed
from flows.workspace.dvc import DvcError, lines_of
from flows.workspace.parameters import check_parameters
from flows.workspace.redaction import in_a_line

RUNS = re.compile(r"(?:Running stage|Stage) '(?P<stage>[^']+)'(?::| is cached)")
LACKS_DATA = re.compile(
    r"failed to reproduce '(?P<stage>[^']+)': (?:\[Errno 2\]|.*missing data|.*does not exist as an output)"
)


def first_stale() -> str | None:
    """The stage that a retraining would begin with, None where it would have nothing to do, or no batch is listed.

    Raises:
        ValueError: a batch that is listed is not DVC's, or params.yaml is wrong.
        DvcError: DVC cannot read what it needs.
    """
    check_parameters(has_batches=bool(listed()))
    lost = [name for name in listed() if not digest_of(name)]
    if lost:
        raise ValueError(
            f"{paths.batches()} lists {', '.join(lost)}, which {paths.raw()} has no .dvc file of: `dvc add` it, and commit that"
        )
    for _ in lines_of("data", "status", "--json"):
        pass  # it fails where a file of DVC's cannot be read
    if not listed():  # DVC takes an empty list for a mistake
        return None
    try:
        for line in lines_of("repro", "--dry", "--allow-missing"):
            if found := RUNS.match(line):
                return found["stage"]
    except DvcError as error:
        # without data a dry run goes no farther than the first stage that it would run
        if found := LACKS_DATA.search(str(error)):
            return found["stage"]
        raise
    return None


def main() -> None:
    try:
        stage = first_stale()
    except (OSError, ValueError, DvcError) as error:
        sys.exit(f"error: {in_a_line(error)}")
    said = f"would begin with {stage}" if stage else "would have nothing to do"
    sys.stdout.write(f"a retraining {said if listed() else 'waits for a first batch'}\n")


if __name__ == "__main__":
    main()
