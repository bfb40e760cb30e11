"""Read the bytes of a text by its path: canonical bytes, which are the same in every layout that a text comes in.

A text is one or several cells, such as a title and a body. Its canonical bytes are the JSON list of its cells in
Unicode NFC with `\n` at the ends of lines.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from tasks.data.samples.defects import DefectError

LINE_END = re.compile(r"\r\n?")


def canonical(cells: Sequence[str]) -> bytes:
    """Return the canonical bytes of a text's cells. Raises DefectError for a cell that is not text."""
    normal = [unicodedata.normalize("NFC", LINE_END.sub("\n", cell)) for cell in cells]
    try:
        return json.dumps(normal, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise DefectError("not_text", "it has half of a surrogate pair, which is no character") from None


def read_text(path: Path) -> bytes:
    """Return the canonical bytes of the text at `path`, a file of one text.

    Raises:
        FileNotFoundError: there is no such file.
    """
    content = path.read_bytes()
    try:
        return canonical([content.decode("utf-8-sig")])
    except UnicodeDecodeError:
        return content  # which `decode_sample` calls no text
