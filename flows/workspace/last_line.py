"""The last line that a command prints, after the lines that Prefect logs at its end."""

import atexit
import sys
from collections.abc import Callable


def last_line() -> Callable[[str], None]:
    """Return a function that takes the line. Call this before Prefect is imported: exit hooks run in reverse order."""
    lines: list[str] = []

    def write() -> None:
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()

    atexit.register(write)
    return lines.append
