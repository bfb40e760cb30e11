"""Texts of strangers, such as the names of domains, as a line shows them: a table may call a domain anything."""

from collections.abc import Sequence

MOST_NAMED = 10  # domains in a line
MOST_CHARACTERS = 60  # of a name


def on_one_line(text: str) -> str:
    """Return a text whose unprintable characters are escaped, line breaks among them."""
    return text if text.isprintable() else ascii(text)


def printable(name: str) -> str:
    """Return a name on one line, cut where it is long."""
    shown = on_one_line(name)
    return shown if len(shown) <= MOST_CHARACTERS else shown[: MOST_CHARACTERS - 1] + "…"


def listed(names: Sequence[str], *, joint: str = ", ") -> str:
    """Return the first of these names in one line, and how many there are more."""
    more = len(names) - MOST_NAMED
    return joint.join(map(printable, names[:MOST_NAMED])) + (f" and {more:,} more" if more > 0 else "")
