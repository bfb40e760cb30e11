"""Report the error of a failed verb to the program that started it, in a file: a log also holds names of strangers.

The variable GRAFTLINE_FAILURES names the file. Each failure adds a line to it, a JSON object.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

VARIABLE = "GRAFTLINE_FAILURES"


class MissingDataError(ValueError):
    """The error of data that DVC tracks and that is not here; `dvc pull` brings it by the file `pointer`."""

    def __init__(self, message: str, *, pointer: str) -> None:
        super().__init__(message)
        self.pointer = pointer


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A verb's error in one line, and the pointer of the data that it misses, if it misses any."""

    error: str
    pointer: str | None = None


def write_failure(failure: Failure) -> None:
    """Add a failure to the file that the environment names; do nothing where it names none."""
    if place := os.environ.get(VARIABLE):
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(failure)) + "\n")


def read_failures(place: Path) -> list[Failure]:
    """Return the failures in a file; none where there is no such file. A half line of a killed verb is left out."""
    failures = []
    for line in place.read_text("utf-8").splitlines() if place.is_file() else []:
        try:
            failures.append(Failure(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return failures
