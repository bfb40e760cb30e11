"""The sign that a batch of a landing is whole: a marker beside it, or some time without a change."""

import math

MARKER = "_COMPLETE"
QUIET_SECONDS = 300.0


def check_quiet(seconds: float) -> None:
    """Raise ValueError if the quiet seconds are not such a number."""
    if not 0 <= seconds < math.inf:
        raise ValueError(f"the quiet seconds are {seconds}, expected a number from 0 on, such as {QUIET_SECONDS}")
