"""Decode the canonical bytes of a text, or name their defect.

A text is one or several cells, such as a title and a body. Its canonical bytes are the JSON list of its cells in
Unicode NFC with `\n` at the ends of lines. So the same text has the same bytes in every layout that it may come in.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.data.samples.defects import DefectError
from tasks.text.options import TextLimits

LINE_END = re.compile(r"\r\n?")
# they are no sign of their own: zero-width characters, marks of direction, byte-order marks
INVISIBLE = re.compile(r"[\s\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]+")
MARKUP = re.compile(r"<[a-zA-Z!/][^<>]{0,1000}>|&(?:[a-zA-Z]{2,8}|#\d{1,7}|#x[0-9a-fA-F]{1,6});|(?<!&)#\d{2,5};")


@dataclass(frozen=True, kw_only=True)
class TextFacts:
    """The facts of a text: its characters, its words, and whether remains of HTML stand in it."""

    characters: int
    words: int
    has_markup: bool


def canonical(cells: Sequence[str]) -> bytes:
    """Return the canonical bytes of a text's cells. Raises DefectError for a cell that is not text."""
    normal = [unicodedata.normalize("NFC", LINE_END.sub("\n", cell)) for cell in cells]
    try:
        return json.dumps(normal, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise DefectError("not_text", "it has half of a surrogate pair, which is no character") from None


def inspect_text(content: bytes, *, limits: TextLimits) -> TextFacts:
    """Return the facts of canonical bytes. Raises DefectError, with the reason, where the text cannot be used."""
    text = decode_text(content)
    if (num_seen := len(INVISIBLE.sub("", text))) < limits.min_characters:
        raise DefectError("no_text", f"{num_seen} characters that can be seen, expected {limits.min_characters}")
    if len(text) > limits.max_characters:
        raise DefectError("too_many_characters", f"{len(text)} characters, expected at most {limits.max_characters}")
    return TextFacts(characters=len(text), words=len(text.split()), has_markup=bool(MARKUP.search(text)))


def decode_text(content: bytes, *, shorter_side: None = None) -> str:
    """Return the text of canonical bytes: its cells that are not blank, a line each.

    `shorter_side` is an image's, and nothing here.

    Raises:
        DefectError: the bytes are not canonical.
    """
    try:
        cells = json.loads(content.decode())
    except (ValueError, RecursionError):
        cells = None
    if not isinstance(cells, list) or not all(isinstance(cell, str) for cell in cells):
        raise DefectError("not_text", "the bytes are no list of cells")
    return "\n".join(cell for cell in cells if cell.strip())
