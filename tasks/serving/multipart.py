"""The files of a form (multipart/form-data, RFC 7578) that is in memory."""

import email
from dataclasses import dataclass
from email.message import Message

MOST_HEAD_BYTES = 8192  # of a part
MOST_BOUNDARY = 70  # characters, RFC 2046
MOST_SEMICOLONS = 64  # of the head of a part: the time that `email` takes grows with their square


class TooManyPartsError(ValueError):
    """The error of a form with too many parts."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a form; a field that is no file has no `filename`."""

    name: str
    filename: str | None
    content: bytes


def parts_of(body: bytes, content_type: str, *, max_parts: int) -> list[Part]:
    """Return the parts of a form.

    Raises:
        TooManyPartsError: it has more than `max_parts`.
        ValueError: the body is no form.
    """
    separator = b"\r\n--" + _boundary(content_type)
    pieces = (b"\r\n" + body).split(separator, max_parts + 2)
    if len(pieces) < 2:
        raise ValueError("the form has no part with the boundary that its content-type names")
    if len(pieces) > max_parts + 2:
        raise TooManyPartsError(f"the form has more than {max_parts} parts: send several")
    if not pieces[-1].startswith(b"--"):
        raise ValueError("the form is cut off: its last boundary is missing")
    return [_part(piece) for piece in pieces[1:-1]]


def _boundary(content_type: str) -> bytes:
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_boundary()
    if not boundary or len(boundary) > MOST_BOUNDARY or not boundary.isascii():
        raise ValueError(f"the content-type of a form names a boundary of 1 to {MOST_BOUNDARY} characters")
    return boundary.encode()


def _part(piece: bytes) -> Part:
    end = piece.find(b"\r\n\r\n", 0, MOST_HEAD_BYTES)
    if not piece.startswith(b"\r\n") or end < 0:
        raise ValueError(f"a part of the form has no head, or one of more than {MOST_HEAD_BYTES} bytes")
    if piece.count(b";", 0, end) > MOST_SEMICOLONS:
        raise ValueError(f"the head of a part of the form has more than {MOST_SEMICOLONS} semicolons")
    head = email.message_from_string(piece[2:end].decode("utf-8", "replace"))
    name = head.get_param("name", header="content-disposition")
    if head.get_content_disposition() != "form-data" or name is None:
        raise ValueError("a part of the form has no content-disposition with a name")
    return Part(name=str(name), filename=head.get_filename(), content=piece[end + 4 :])
