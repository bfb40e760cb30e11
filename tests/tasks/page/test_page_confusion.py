import base64
import zlib

import numpy as np
import pandas as pd

from tasks.page.confusion import MAX_PAIRS, confusion


def unpacked(text, dtype):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=dtype)


def test_table_counts_rows_actual_and_columns_predicted():
    matrix = confusion(pd.DataFrame({"label": ["b", "b", "a"], "candidate": ["a", "b", "c"]}))
    assert matrix["names"] == ["a", "b", "c"]
    assert [[cell["count"] for cell in row["cells"]] for row in matrix["rows"]] == [[0, 0, 1], [1, 1, 0], [0, 0, 0]]
    assert [cell["shade"] for cell in matrix["rows"][1]["cells"]] == [5, 5, 0]


def test_matrix_of_many_classes_is_given_by_the_cells_that_are_not_0():
    names = [f"{number:03d}" for number in range(300)]
    matrix = confusion(pd.DataFrame({"label": [*names, "299"], "candidate": [*names[:299], "000", "000"]}))
    assert matrix["rows"] is None
    row, column = (unpacked(matrix["cells"][key], "<u2") for key in ("row", "column"))
    count = unpacked(matrix["cells"]["count"], "<u4")
    assert dict(zip(zip(row.tolist(), column.tolist(), strict=True), count.tolist(), strict=True)) == {
        (number, number): 1 for number in range(299)
    } | {(299, 0): 2}


def test_most_confused_pairs_come_first():
    labels = ["a"] * 4 + ["b"] * 4
    matrix = confusion(pd.DataFrame({"label": labels, "candidate": ["a", "a", "a", "b", "a", "a", "b", "b"]}))
    assert matrix["pairs"] == [
        {"label": "b", "candidate": "a", "count": 2, "share": 0.5},
        {"label": "a", "candidate": "b", "count": 1, "share": 0.25},
    ]


def test_long_list_of_pairs_is_cut_and_counted():
    names = [str(number) for number in range(MAX_PAIRS + 5)]
    matrix = confusion(pd.DataFrame({"label": names, "candidate": names[::-1]}))
    assert len(matrix["pairs"]) == MAX_PAIRS
    assert matrix["num_pairs"] == MAX_PAIRS + 4  # one, in the middle, is right
