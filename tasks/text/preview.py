"""Make what the page shows of a text: its first characters, with their digits masked and no character that acts."""

import re
import unicodedata
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
    excerpt, is_cut = _excerpt(_folded(text))
    return _harmless(excerpt, options) + CUT * is_cut


def preview_twins(one: str, other: str, options: Snippets) -> tuple[list[Piece], list[Piece]]:
    """Return the same part of two near-duplicates, in pieces: from the beginning, or from their first difference on."""
    texts = [_folded(one), _folded(other)]
    signs = enumerate(zip(*texts, strict=False))
    first = next((place for place, (sign, own) in signs if sign != own), min(map(len, texts)))
    start = first - LEAD if first > LONGEST - LEAD else 0
    (left, is_left_cut), (right, is_right_cut) = (_excerpt(text, start) for text in texts)
    pieces = PIECE.findall(left), PIECE.findall(right)
    runs = SequenceMatcher(None, *pieces, autojunk=False).get_opcodes()
    if (is_left_cut or is_right_cut) and runs and runs[-1][0] in ("delete", "insert"):
        runs.pop()  # one excerpt ends earlier, where the texts may go on alike
    sides = []
    for (from_, to), own, is_cut in (((1, 3), pieces[0], is_left_cut), ((3, 5), pieces[1], is_right_cut)):
        parts = [Piece(text=CUT, is_changed=False)] if start else []
        for run in runs:
            if piece := "".join(own[slice(*run[from_:to])]):
                parts.append(Piece(text=_harmless(piece, options), is_changed=run[0] != "equal"))
        sides.append(parts + [Piece(text=CUT, is_changed=False)] * is_cut)
    return sides[0], sides[1]


def _folded(text: str) -> str:
    return " ".join(text.split())


def _excerpt(text: str, start: int = 0) -> tuple[str, bool]:
    """Return at most LONGEST characters of a text, and whether others follow."""
    return text[start : start + LONGEST], len(text) > start + LONGEST


def _harmless(text: str, options: Snippets) -> str:
    """Write characters that would act instead of being seen by their names, and mask digits on request."""
    return "".join(DIGIT if options.mask_digits and sign.isdigit() else _seen(sign) for sign in text)


def _seen(sign: str) -> str:
    if unicodedata.category(sign) not in ACTING or sign in JOINERS:
        return sign
    code = ord(sign)
    if code < 0x20:
        return chr(0x2400 + code)  # the picture of the control character
    return f"⟨U+{code:04X}⟩"
