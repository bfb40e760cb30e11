"""Names of strangers, as lines, cells and pages show them."""

from unicodedata import bidirectional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.kit.hostile_inputs import NAMES
from tasks.machine.names import (
    OBEYED,
    in_a_cell,
    of_a_cell,
    on_one_line,
    plotted,
    without_commands,
    without_markup,
)

TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
LIKE_ESCAPES = st.text(st.sampled_from("\\nx1bu0'=-+@a\n\x1b\u202e\U0001f600\t3.")) | st.text()


@given(LIKE_ESCAPES)
def test_cell_of_a_table_gives_its_text_back(text):
    assert of_a_cell(in_a_cell(text)) == text


@given(LIKE_ESCAPES)
def test_cell_of_a_table_is_one_line_that_no_spreadsheet_computes(text):
    cell = in_a_cell(text)
    assert cell.isprintable()
    assert cell[:1] not in "=@" or not cell


@pytest.mark.parametrize("number", ["-1", "+2.5", "-1e-05", "3"])
def test_number_stays_a_number_in_a_cell(number):
    assert in_a_cell(number) == number


@pytest.mark.parametrize(("text", "cell"), [("=1+1", "'=1+1"), ("@a", "'@a"), ("-a", "'-a"), ("'=a", "''=a")])
def test_formula_has_an_apostrophe_before_it(text, cell):
    assert in_a_cell(text) == cell


@pytest.mark.parametrize("mark", [chr(mark) for mark in range(0x110000) if bidirectional(chr(mark)) in TURNING])
def test_mark_that_turns_the_direction_of_a_text_is_escaped(mark):
    assert without_commands(f"a{mark}b").isascii()


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_no_name_gives_an_order_to_a_terminal_or_a_page(name):
    assert on_one_line(name).isprintable()
    assert not OBEYED.search(without_commands(name))
    assert not set("<>&\n\x1b") & set(without_markup(name) + plotted(name))


def test_name_that_people_write_stays_as_it_is():
    for name in ("Käse", "ja/nein", "<18", "a\\b", "猫", "10 %"):
        assert on_one_line(name) == without_commands(name) == in_a_cell(name) == name
