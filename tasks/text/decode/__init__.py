"""Decode the canonical bytes of a text (see `tasks.data.samples.text_cells`), or name their defect."""

import json
import re

from tasks.data.samples.defects import DefectError
from tasks.data.samples.text_cells import read_text as read  # noqa: F401  of the shape of a room
from tasks.text.decode.other_files import what_it_is
from tasks.text.facts import Facts
from tasks.text.options import TextLimits

ENDINGS = (".txt",)  # of files that are one text each
NOT_ONE = None  # any bytes may begin like a text, so that only the name shows what a file is
# characters that show nothing: control and zero-width ones, marks of direction and of variants, blank letters
INVISIBLE = re.compile(
    r"[\s\x00-\x1f\x7f-\x9f\u00ad\u034f\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069"
    r"\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e007f]+"
)
MARKUP = re.compile(r"<[a-zA-Z!/][^<>]{0,1000}>|&(?:[a-zA-Z]{2,8}|#\d{1,7}|#x[0-9a-fA-F]{1,6});|(?<!&)#\d{2,5};")


def inspect_content(content: bytes, *, limits: TextLimits) -> Facts:
    """Return the facts of canonical bytes. Raises DefectError, with the reason, where the text cannot be used."""
    text = decode_sample(content)
    if (num_seen := len(INVISIBLE.sub("", text))) < limits.min_characters:
        raise DefectError("no_text", f"{num_seen} characters that can be seen, expected {limits.min_characters}")
    if len(text) > limits.max_characters:
        raise DefectError("too_many_characters", f"{len(text)} characters, expected at most {limits.max_characters}")
    return Facts(characters=len(text), words=len(text.split()), has_markup=bool(MARKUP.search(text)))


def decode_sample(content: bytes, *, shorter_side: None = None) -> str:
    """Return the text of canonical bytes: its cells that are not blank, a line each.

    `shorter_side` has a meaning for images alone.

    Raises:
        DefectError: the bytes are not canonical: they are those of a file that is no text. The detail names its kind.
    """
    try:
        cells = json.loads(content.decode())
    except (ValueError, RecursionError):
        cells = None
    if not isinstance(cells, list) or not all(isinstance(cell, str) for cell in cells):
        raise DefectError("not_text", what_it_is(content))
    return "\n".join(cell for cell in cells if cell.strip())


def decode_stranger(content: bytes, *, limits: TextLimits, shorter_side: None = None) -> str:
    """Return the result of `decode_sample` for bytes that were not inspected before.

    Raises:
        DefectError: the text cannot be used, with the reason, as from `inspect_content`.
    """
    inspect_content(content, limits=limits)
    return decode_sample(content)
