"""Find the processes that a process started, and check whether one still runs. Linux only."""

from itertools import chain
from pathlib import Path


def descendants(pid: int) -> dict[int, str]:
    """Return the command lines, by pid, of all descendants of a process."""
    commands: dict[int, str] = {}
    try:
        threads = [children.read_text().split() for children in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # the process has ended
        return commands
    for child in map(int, chain(*threads)):
        try:
            commands[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        commands |= descendants(child)
    return commands


def is_running(pid: int) -> bool:
    """Return whether the process runs. A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
