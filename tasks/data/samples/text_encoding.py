"""Find the encoding of a text: by the mark at its start, else UTF-8, else the one that a person names."""

import codecs

UTF_8 = "utf-8"
MARKS = {
    codecs.BOM_UTF8: UTF_8,
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
LONGEST_START = 2**16  # bytes that show whether a character takes several
FEWEST_WIDE = 8  # bytes that show it
CHUNK = 2**20  # bytes that are decoded at once


def mark_of(content: bytes) -> bytes:
    """Return the byte-order mark that the bytes begin with; b"" without one."""
    return next((mark for mark in MARKS if content.startswith(mark)), b"")


def known_encoding(name: str) -> str:
    """Return the name that Python has for an encoding. Raises ValueError where it has none."""
    try:
        found = codecs.lookup(name)
        if not found._is_text_encoding:
            raise LookupError(name)
    except LookupError:
        raise ValueError(f"the encoding {name!r} is unknown, expected a name such as cp1252 or utf-16-le") from None
    return found.name


def encoding_of(content: bytes, *, otherwise: str | None) -> str:
    """Return the encoding of the bytes of a whole file.

    Args:
        otherwise: the encoding of a file that has no mark and is not UTF-8; None where nobody named one.

    Raises:
        ValueError: there is no encoding of the name `otherwise`.
    """
    if mark := mark_of(content):
        return MARKS[mark]
    if otherwise is None:
        return UTF_8
    named = known_encoding(otherwise)
    if content.isascii():
        return UTF_8 if is_plain(named) else named
    return UTF_8 if is_utf8(content) and not is_wide(content) else named


def is_utf8(content: bytes) -> bool:
    decoder = codecs.getincrementaldecoder(UTF_8)()
    try:
        for start in range(0, len(content), CHUNK):
            decoder.decode(content[start : start + CHUNK])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def is_plain(encoding: str) -> bool:
    """Return whether each byte is a character of its own, or a part of one in UTF-8, and ASCII is itself."""
    if encoding == UTF_8:
        return True
    try:
        every = bytes(range(256)).decode(encoding, "replace")
    except (UnicodeError, LookupError):
        return False
    return len(every) == 256 and every.isascii() is False and every[:128] == bytes(range(128)).decode("ascii")


def is_wide(content: bytes) -> bool:
    """Return whether the bytes look like UTF-16 or UTF-32, in which every other byte of plain letters is 0."""
    start = content[:LONGEST_START]
    return len(start) >= FEWEST_WIDE and max(start[::2].count(0), start[1::2].count(0)) * 4 >= len(start)


def is_wide_encoding(name: str) -> bool:
    """Return whether an encoding is UTF-16 or UTF-32."""
    return name.startswith(("utf-16", "utf-32"))
