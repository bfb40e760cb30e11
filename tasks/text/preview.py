"""Make the preview of a text: its first characters, with their digits masked and without control characters."""

import re
import unicodedata
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import TypedDict

from tasks.text.options import Snippets

LONGEST = 300  # characters that are shown
LEAD = 60  # characters before the first difference of twins that differ late
CUT = "…"
DIGIT = "•"
ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # general categories of controls, marks of direction, halves of pairs, breaks
JOINERS = "\u200c\u200d"  # of letters and of emoji: they only choose a shape
PIECE = re.compile(r"\w+|\W")


class Piece(TypedDict):
    """A run of a text that its twin has too, or that `is_changed`."""

    text: str
    is_changed: bool


def is_shown(options: Snippets) -> bool:
    """Return whether the page may show the samples themselves."""
    return options.show_text


def preview(text: str, options: Snippets) -> str:
    """Return the beginning of a text as plain text, which the page still has to escape."""
    return "".join(_harmless(piece, options) for piece, _ in _shortened([(_folded(text), False)]))


def preview_twins(one: str, other: str, options: Snippets) -> tuple[list[Piece], list[Piece]]:
    """Return the same part of two near-duplicates, in pieces: from the beginning, or from their first difference on."""
    texts = [_folded(one), _folded(other)]
    signs = enumerate(zip(*texts, strict=False))
    first = next((place for place, (sign, own) in signs if sign != own), min(map(len, texts)))
    start = first - LEAD if first > LONGEST - LEAD else 0
    # more is compared than is shown, so that an insertion in one twin moves nothing else out of sight
    left, right = (PIECE.findall(text[start : start + 2 * LONGEST]) for text in texts)
    runs = SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
    ours = [("".join(left[first:stop]), kind != "equal") for kind, first, stop, _, _ in runs]
    theirs = [("".join(right[first:stop]), kind != "equal") for kind, _, _, first, stop in runs]
    return _pieces(ours, start, options), _pieces(theirs, start, options)


def _pieces(spans: list[tuple[str, bool]], start: int, options: Snippets) -> list[Piece]:
    """Return the beginning of the spans, which are a text from the character `start` on, as the page shows it."""
    shown = [(CUT * bool(start), False), *_shortened(spans)]
    return [Piece(text=_harmless(text, options), is_changed=is_changed) for text, is_changed in _joined(shown)]


def _shortened(spans: list[tuple[str, bool]]) -> Iterator[tuple[str, bool]]:
    """Yield the first LONGEST characters of the spans, and a sign that others follow."""
    room = LONGEST
    for text, is_changed in spans:
        yield text[:room], is_changed
        if len(text) > room:
            yield CUT, False
            return
        room -= len(text)


def _joined(spans: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """Join neighbours that are both changed or both not; a blank between two changed ones is changed too."""
    spans = [span for span in spans if span[0]]
    joined: list[tuple[str, bool]] = []
    for at, (text, is_changed) in enumerate(spans):
        is_changed |= 0 < at < len(spans) - 1 and not text.strip() and spans[at - 1][1] and spans[at + 1][1]
        if joined and joined[-1][1] == is_changed:
            joined[-1] = (joined[-1][0] + text, is_changed)
        else:
            joined.append((text, is_changed))
    return joined


def _folded(text: str) -> str:
    """Return the first line, which may be a title, and the others as a second one, with single blanks."""
    title, *others = (" ".join(line.split()) for line in text.strip().splitlines() or [""])
    rest = " ".join(filter(None, others))
    return f"{title}\n{rest}" if rest else title


def _harmless(text: str, options: Snippets) -> str:
    """Put visible signs in the place of control characters, and mask digits on request."""
    return "".join(DIGIT if options.mask_digits and sign.isdigit() else _seen(sign) for sign in text)


def _seen(sign: str) -> str:
    if unicodedata.category(sign) not in ACTING or sign in JOINERS:
        return sign
    code = ord(sign)
    if sign == "\n":
        return sign
    if code < 0x20:
        return chr(0x2400 + code)  # the picture of the control character
    return f"⟨U+{code:04X}⟩"
