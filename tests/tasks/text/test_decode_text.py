"""The canonical bytes of a text, and the defects of one that cannot be used."""

import json

import pytest

from tasks.data.samples.defects import DefectError
from tasks.data.samples.text_cells import canonical
from tasks.text.decode import decode_sample, inspect_content
from tasks.text.options import TextLimits

LIMITS = TextLimits(min_characters=1, max_characters=1000)


def reason(content: bytes) -> str:
    with pytest.raises(DefectError) as caught:
        inspect_content(content, limits=LIMITS)
    return caught.value.reason


@pytest.mark.parametrize("text", ["NA", "null", "None", "nan", "1.0", "TRUE", "a\0b", "[SEP]", "\x1b[31mred", "=1+1"])
def test_any_text_that_can_be_seen_is_a_sample_unchanged(text):
    assert decode_sample(canonical([text])) == text
    assert inspect_content(canonical([text]), limits=LIMITS).characters == len(text)


@pytest.mark.parametrize(
    "text", ["", "  \n\t", "\u200b\u200e\ufeff", "\u2066 \u2069", "\x00\x1b\x7f", "\u2800\u3164\ufe0f"]
)
def test_text_that_nobody_can_see_has_a_reason(text):
    assert reason(canonical([text])) == "no_text"


def test_text_has_the_same_bytes_whatever_its_accents_and_line_ends():
    assert (
        canonical(["caf\u00e9\nau lait"]) == canonical(["cafe\u0301\r\nau lait"]) == canonical(["cafe\u0301\rau lait"])
    )


def test_blank_cells_are_no_lines_of_the_text():
    assert decode_sample(canonical(["Title", " ", "Body"])) == "Title\nBody"


def test_half_a_surrogate_pair_is_not_text():
    with pytest.raises(DefectError) as caught:
        canonical(["\ud83d"])
    assert caught.value.reason == "not_text"


@pytest.mark.parametrize("content", [b"", b"plain", b"{}", b"[1]", b"\xff", b"[" * 100_000, json.dumps("a").encode()])
def test_other_bytes_are_not_text(content):
    assert reason(content) == "not_text"


def test_text_that_is_too_long_has_a_reason():
    assert reason(canonical(["x" * 1001])) == "too_many_characters"


@pytest.mark.parametrize(
    ("text", "has"),
    [("AT&amp;T", True), ("a <b>bold</b> word", True), ("Wall St. #39;s", True), ("5 < 6 > 2", False), ("R&D", False)],
)
def test_remains_of_html_are_found(text, has):
    assert inspect_content(canonical([text]), limits=LIMITS).has_markup is has
