"""A process in; those that it started, and whether one still runs, out. Linux alone."""

from itertools import chain
from pathlib import Path


def descendants(pid: int) -> dict[int, str]:
    """The command line of each that it started, and of those that these started, by pid."""
    found: dict[int, str] = {}
    try:
        threads = [each.read_text().split() for each in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has ended
        return found
    for child in map(int, chain(*threads)):
        try:
            found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        found |= descendants(child)
    return found


def is_running(pid: int) -> bool:
    """A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
