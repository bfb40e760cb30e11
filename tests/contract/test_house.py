"""What `python -m benchmarks.house` measures and takes no run of a stage."""

from benchmarks.house import MOST_COLUMNS, import_circles, longest_line


def test_no_modules_import_each_other_not_even_inside_functions():
    assert import_circles() == []


def test_every_line_of_code_and_prose_ends_at_120_columns():
    longest = longest_line()
    assert longest["columns"] <= MOST_COLUMNS, longest["place"]
