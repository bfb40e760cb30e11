"""Show texts of strangers, such as names of classes, domains and files, in a line: they may hold any characters."""

import re
from collections.abc import Sequence

MOST_NAMED = 10  # domains in a line
MOST_CHARACTERS = 60  # of a name
ESCAPE = re.compile(r"\\(?:\\|[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")  # as `in_a_cell` writes them
FORMULA = re.compile(r"'*[=+@＝＋－＠-]")  # begins a cell that a spreadsheet would compute
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that turn the direction of the text around them
OBEYED = re.compile(rf"[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f{BIDI}\u2028\u2029]|\r(?!\n)")  # by terminals and viewers
IN_PAGES = str.maketrans({"<": "‹", ">": "›", "&": "+"})


def on_one_line(text: str) -> str:
    """Return a text with each unprintable character, line breaks among them, escaped as Python does: \\n, \\x1b."""
    return text if text.isprintable() else "".join(map(_shown, text))


def printable(name: str) -> str:
    """Return a name on one line, cut where it is long."""
    shown = on_one_line(name)
    return shown if len(shown) <= MOST_CHARACTERS else shown[: MOST_CHARACTERS - 1] + "…"


def listed(names: Sequence[str], *, joint: str = ", ") -> str:
    """Return the first of these names in one line, and how many more there are."""
    more = len(names) - MOST_NAMED
    return joint.join(map(printable, names[:MOST_NAMED])) + (f" and {more:,} more" if more > 0 else "")


def without_commands(name: str) -> str:
    """Return a name with each character that terminals obey, or that turns the direction of a text, escaped.

    Tabs and line breaks stay, as they may stand between several labels.
    """
    return OBEYED.sub(lambda mark: _shown(mark[0]), name)


def without_markup(text: str) -> str:
    """Return a text on one line that no page takes for HTML: it has ‹, › and + instead of <, > and &."""
    return on_one_line(text).translate(IN_PAGES)


def in_a_cell(text: str) -> str:
    r"""Return a text for a cell of a CSV file for people: on one line, and no formula for a spreadsheet.

    An apostrophe stands before a text that begins like a formula. Where a character is escaped, each backslash is
    doubled. `of_a_cell` undoes both.
    """
    if not text.isprintable() or ESCAPE.search(text):
        text = "".join(r"\\" if mark == "\\" else _shown(mark) for mark in text)
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def of_a_cell(cell: str) -> str:
    """Return the text that `in_a_cell` wrote."""
    text = cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
    return ESCAPE.sub(lambda escape: escape[0].encode("ascii").decode("unicode_escape"), text)


def plotted(name: str) -> str:
    """Return a name for a file of DVC's plots: DVC puts it into a page as it is. This cannot be undone."""
    return in_a_cell(without_markup(name))


def _shown(mark: str) -> str:
    return mark if mark.isprintable() else ascii(mark)[1:-1]
