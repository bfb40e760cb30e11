"""What the page shows of a text: it cannot act, its digits are masked, and twins show where they differ."""

import pytest

from tasks.text.options import Snippets
from tasks.text.preview import LONGEST, is_shown, preview, preview_twins

MASKED = Snippets(show_text=True, mask_digits=True)
PLAIN = Snippets(show_text=True, mask_digits=False)


def seen(pieces):
    """Return the pieces as one text, with what is changed in brackets."""
    return "".join(f"[{piece['text']}]" if piece["is_changed"] else piece["text"] for piece in pieces)


def test_texts_are_shown_on_request_alone():
    assert is_shown(PLAIN)
    assert not is_shown(Snippets(show_text=False, mask_digits=False))


def test_beginning_of_a_long_text_is_shown_and_a_short_one_whole():
    assert preview("ab " * 1000, PLAIN) == ("ab " * 1000)[:LONGEST] + "…"
    assert preview("short", PLAIN) == "short"


def test_title_keeps_its_line_and_other_blanks_are_folded():
    assert preview("  A  title \n\n\tone\ntwo  three\n", PLAIN) == "A title\none two three"


def test_digits_of_all_scripts_are_masked_unless_they_may_be_shown():
    assert preview("call 0800 ٣٤ ² now", MASKED) == "call •••• •• • now"
    assert preview("call 0800", PLAIN) == "call 0800"


def test_characters_that_act_are_shown_by_their_names():
    assert preview("a\0b\x1b[31mc", PLAIN) == "a␀b␛[31mc"
    assert preview("a\u202eb\u2066c\u200bd\x7f\ud83d", PLAIN) == "a⟨U+202E⟩b⟨U+2066⟩c⟨U+200B⟩d⟨U+007F⟩⟨U+D83D⟩"
    family = "\U0001f468\u200d\U0001f469"  # two emoji that a joiner makes one
    assert preview(family, PLAIN) == family


def test_twins_are_marked_where_they_differ():
    one, other = preview_twins("The old cat sat down.", "The cat sat up now.", PLAIN)
    assert seen(one) == "The[ old] cat sat [down]."
    assert seen(other) == "The cat sat [up now]."


def test_twins_that_differ_in_a_digit_show_the_place_and_not_the_digit():
    one, other = preview_twins("call 0800 now", "call 0801 now", MASKED)
    assert seen(one) == seen(other) == "call [••••] now"


def test_twins_that_differ_late_are_shown_from_there():
    start = "the same words " * 100
    one, other = preview_twins(f"{start}then ends here.", f"{start}then stops here.", PLAIN)
    assert seen(one).startswith("…")
    assert seen(one).endswith("then [ends] here.")
    assert seen(other).endswith("then [stops] here.")


def test_longer_twin_is_not_marked_where_its_part_ends_later():
    tail = " ".join(f"word{number}" for number in range(100))
    one, other = preview_twins(f"start {tail}", f"start inserted {tail}", PLAIN)
    assert "[" not in seen(one)
    assert seen(other).count("[") == 1
    assert seen(other).startswith("start[ inserted] word0")


def test_twins_that_differ_in_blanks_alone_have_no_mark():
    one, other = preview_twins("a  b", "a b ", PLAIN)
    assert seen(one) == seen(other) == "a b"


@pytest.mark.parametrize("odd", ["", " \n", "x" * 10_000, "!" * 10_000, "e" + "\u0301" * 10_000, "\0" * 10_000])
def test_odd_texts_have_short_previews(odd):
    assert len(preview(odd, PLAIN)) <= LONGEST + 1
    for pieces in preview_twins(odd, odd + "y", PLAIN):
        assert len("".join(piece["text"] for piece in pieces)) <= LONGEST + 2
