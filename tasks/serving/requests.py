"""Read the samples of a request: files of a form, or base64 or text in JSON."""

import binascii
import json
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.data.raw.entries import readable
from tasks.prediction.inputs import Input, text_input
from tasks.serving.multipart import Part, TooManyPartsError, parts_of

MOST_NAME = 200  # characters of a name; the rest is left out
FIELD_OF_TEXTS = "text"  # of a form
TOKENS_OF_SAMPLE = 64  # strings, commas and brackets of JSON; one that is parsed may take 100 times its bytes
MARKS = (b'"', b",", b"[", b"{")
TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[,\[{]', re.DOTALL)  # a string may lack its end: no place is read twice


class RefusedError(Exception):
    """The error of a refused request: its HTTP status, and a line with what to do."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


class Samples(BaseModel):
    """The samples of a request in JSON: pictures in base64, or texts, a cell or several cells each."""

    model_config = ConfigDict(extra="forbid", strict=True)

    images: list[str] | None = None
    texts: list[str | list[str]] | None = None
    names: list[str] | None = None


def inputs_of(body: bytes, content_type: str, *, is_text: bool, max_samples: int) -> list[Input]:
    """Return the samples of a request. Their names are shown in answers, and never opened as paths.

    Args:
        is_text: whether the model reads texts.

    Raises:
        RefusedError: the body is of another kind, is damaged, or has no samples or too many.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        try:
            parts = parts_of(body, content_type, max_parts=max_samples)
        except TooManyPartsError as error:
            raise RefusedError(413, str(error)) from error
        except ValueError as error:
            raise RefusedError(400, str(error)) from error
        inputs = [_of_part(part, number, is_text=is_text) for number, part in enumerate(parts)]
    elif kind == "application/json":
        inputs = _of_json(body, is_text=is_text, max_tokens=TOKENS_OF_SAMPLE * max_samples)
    else:
        raise RefusedError(415, "expected a content-type of multipart/form-data or application/json")
    if not inputs:
        raise RefusedError(400, "the request has no sample")
    if len(inputs) > max_samples:
        raise RefusedError(413, f"the request has {len(inputs)} samples, expected at most {max_samples}: send several")
    return inputs


def _of_part(part: Part, number: int, *, is_text: bool) -> Input:
    if part.filename is None and not (is_text and part.name == FIELD_OF_TEXTS):
        expected = f"files, or fields called {FIELD_OF_TEXTS}" if is_text else "files alone"
        raise RefusedError(400, f"the form has the field {_name(part.name)!r}, expected {expected}")
    name = _name(part.filename or f"{FIELD_OF_TEXTS} {number}")
    if not is_text:
        return Input(path=name, content=part.content)
    try:
        return text_input([part.content.decode("utf-8-sig")], path=name)
    except UnicodeDecodeError:
        return Input(path=name, reason="not_text", detail="the bytes are not UTF-8")


def _of_json(body: bytes, *, is_text: bool, max_tokens: int) -> list[Input]:
    if _has_more_tokens(body, max_tokens):
        raise RefusedError(413, f"the JSON has more than {max_tokens} strings, commas and brackets: send less")
    try:
        samples = Samples.model_validate_json(body)
    except ValidationError as error:
        raise RefusedError(400, _in_a_line(error)) from None
    field, other = ("texts", "images") if is_text else ("images", "texts")
    own: list[Any] | None = getattr(samples, field)
    if own is None or getattr(samples, other) is not None:
        raise RefusedError(400, f"the model reads {field}: expected {{{json.dumps(field)}: […]}}")
    names = samples.names or [f"{field[:-1]} {number}" for number in range(len(own))]
    if len(names) != len(own):
        raise RefusedError(400, f"there are {len(names)} names and {len(own)} {field}, expected as many")
    named = zip(own, map(_name, names), strict=True)
    if is_text:
        return [text_input([cells] if isinstance(cells, str) else cells, path=name) for cells, name in named]
    return [_of_base64(text, name) for text, name in named]


def _has_more_tokens(body: bytes, most: int) -> bool:
    if sum(map(body.count, MARKS)) <= most:  # as most requests have
        return False
    return any(number >= most for number, _ in enumerate(TOKEN.finditer(body)))


def _of_base64(text: str, name: str) -> Input:
    try:
        return Input(path=name, content=binascii.a2b_base64(text.encode("ascii"), strict_mode=True))
    except (ValueError, UnicodeEncodeError):
        return Input(path=name, reason="not_an_image", detail="the text is not base64 without line breaks")


def _name(name: str) -> str:
    return readable(name[:MOST_NAME])


def _in_a_line(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])[:MOST_NAME]
    return f"{place or 'the body'}: {first['msg']}"[:300]
