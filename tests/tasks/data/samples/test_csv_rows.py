"""The rows of a CSV or TSV: no damage loses a row or invents one."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.data.samples.csv_rows import cells_of, find_rows
from tasks.data.samples.parquet_cells import UnreadableTableError

HEADER = ["text", "label"]
TWO_LINES = ['two\nlines of "text"', "x"]


def written(rows, *, delimiter=",", quoting=csv.QUOTE_MINIMAL):
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter, quoting=quoting).writerows([HEADER, *rows])
    return stream.getvalue().encode()


def read(content, **settings):
    """Return the cells of each row; None for one that cannot be read."""
    rows = find_rows(content, **settings)
    places = zip(rows.starts, rows.starts[1:], strict=False)
    return [
        None
        if number in rows.problems
        else [cell.decode() for cell in cells_of(content[start:end].strip(b"\r\n"), rows.dialect)]
        for number, (start, end) in enumerate(places)
    ]


def tables(alphabet, **settings):
    cells = st.text(alphabet, max_size=6)
    return st.lists(st.tuples(cells, cells).map(list), min_size=1, max_size=5, **settings)


@given(tables('ab", ;\\\n\r\té'), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.sampled_from(",;"))
def test_what_a_program_writes_is_read_as_it_was(rows, quoting, delimiter):
    assert read(written(rows, quoting=quoting, delimiter=delimiter)) == rows


@given(tables('ab", ;\\\n\ré'))
def test_quotes_of_a_tsv_are_read_as_its_program_wrote_them(rows):
    rows = [TWO_LINES, *rows]
    assert read(written(rows, delimiter="\t"), prefers_tabs=True) == rows


LINE_BREAKS_ELSEWHERE = tables('ab",\n').map(lambda rows: [TWO_LINES, *rows, TWO_LINES])
NO_LINE_BREAKS = tables('ab",')


@given(
    st.one_of(
        st.tuples(st.one_of(NO_LINE_BREAKS, LINE_BREAKS_ELSEWHERE), st.just(csv.QUOTE_MINIMAL)),
        st.tuples(st.one_of(NO_LINE_BREAKS, LINE_BREAKS_ELSEWHERE), st.just(csv.QUOTE_ALL)),
    ),
    st.floats(0, 1, exclude_max=True),
    st.booleans(),
)
def test_unbalanced_quote_loses_and_invents_no_row(table, place, removes):
    """The rest is in the order of the table; or the table is refused, and nothing of it is lost."""
    rows, quoting = table
    content = written(rows, quoting=quoting)
    data = len(written([], quoting=quoting))
    if removes:
        quotes = [at for at in range(data, len(content)) if content[at : at + 1] == b'"']
        if not quotes:
            return
        at = quotes[int(place * len(quotes))]
        content = content[:at] + content[at + 1 :]
    else:
        at = data + int(place * (len(content) - data - 2))
        content = content[:at] + b'"' + content[at:]
    try:
        found = read(content)
    except UnreadableTableError as refused:
        if "has an odd number of quotes" in str(refused):
            return
        raise
    assert len(found) == len(rows)
    for row, original in zip(found, rows, strict=True):
        assert row is None or [cell.replace('"', "") for cell in row] == [cell.replace('"', "") for cell in original]


def test_unbalanced_quote_is_one_defect_where_every_line_is_a_row():
    content = b'text,label\n"one",a\n"two, and,b\n"three, too",a\n"he said "hi" there",b\n"five",a\n'
    assert read(content) == [["one", "a"], None, ["three, too", "a"], None, ["five", "a"]]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_unbalanced_quote_that_hides_the_end_of_its_row_is_named_by_its_line(newline):
    lines = [
        b"text,label",
        b'"two',
        b'lines",a',
        b"",
        b'"never closed,b',
        b"some words,more",
        b'"two',
        b'lines",a',
        b"",
    ]
    with pytest.raises(UnreadableTableError, match=r"line 5 has an odd number of quotes, so that nobody can tell"):
        read(newline.join(lines))


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_long_cell_with_line_breaks_is_one_cell(newline):
    text = newline.join(["some words,more"] * 15_000)
    content = f'text,label{newline}"{text}",a{newline}one,b{newline}'.encode()
    assert read(content) == [[text, "a"], ["one", "b"]]


def test_row_with_too_few_or_too_many_cells_costs_no_other():
    assert read(b"text,label\none,a\ntwo\n\nthree,a,b\n  \nfour,b") == [["one", "a"], None, None, None, ["four", "b"]]


def test_quotes_that_do_not_fit_within_a_line_cost_that_row_alone():
    content = b'text,label\n"he said "hi"",a\n"two\nlines",b\n"a" b,c\none,a\n'
    assert read(content) == [None, ["two\nlines", "b"], None, ["one", "a"]]


def test_quotes_behind_backslashes_are_read_where_the_table_has_such():
    content = b'text,label\n"he said \\"hi\\", she",a\n"C:\\\\dir\\new",b\n'
    assert read(content) == [['he said "hi", she', "a"], ["C:\\dir\\new", "b"]]


def test_backslash_before_a_closing_quote_is_text_in_any_other_table():
    assert read(b'text,label\n"C:\\",a\n"say ""hi""",b\n') == [["C:\\", "a"], ['say "hi"', "b"]]


def test_quotes_of_a_tsv_that_knows_none_are_text():
    """Read as quotes, they would join rows."""
    content = b'label\ttext\nham\t"Hello\nspam\tsay "\nham\t"so" he said\nspam\tfree 5" disk\n'
    assert read(content, prefers_tabs=True) == [
        ["ham", '"Hello'], ["spam", 'say "'], ["ham", '"so" he said'], ["spam", 'free 5" disk'],
    ]  # fmt: skip


def test_quote_within_a_cell_that_begins_with_none_is_text():
    assert read(b'text,label\n5" disk,a\n"well, yes",b\n') == [['5" disk', "a"], ["well, yes", "b"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b'"text,label\none,a\n', "a quote in its header"), (b"\n\n", "header is blank"), (b"a," * 1001, "1002 columns")],
)
def test_table_without_a_header_that_can_be_read_is_refused(content, message):
    with pytest.raises(UnreadableTableError, match=message):
        read(content)
