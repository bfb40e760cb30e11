"""Small files that stand for gigabytes: each has a reason in the ledger, and is never in memory whole."""

import resource
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.data.raw.cells import Cells, lists_of_labels
from tasks.data.samples.parquet_cells import UnreadableTableError
from tasks.scan import run
from tasks.stage.params import ScanParams
from tests.kit.deep import deep_folder
from tests.kit.verbs import run_in_fork

PARAMS = ScanParams(
    min_image_size=8, max_image_pixels=10_000, max_file_bytes=100_000, max_decode_seconds=5.0,
    text_columns=None, encoding=None, min_characters=1, max_characters=1000,
)  # fmt: skip
GIB = 2**30
ROWS = 22_000
LONG = "c" * 450_000


def scanned(batch, *, files=0):
    """Scan a batch in a fork that may take a gibibyte more than this process has; return its defects."""
    out = batch.with_name("scanned")

    def work():
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + GIB
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        run(raw=batch, out=out, scan=PARAMS, modality="images")

    done = run_in_fork(work)
    assert done.status == 0, done.stderr[-2000:]
    assert len(pd.read_parquet(out / "samples.parquet")) == files
    return pd.read_parquet(out / "defects.parquet")


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "batch").mkdir()
    return tmp_path / "batch"


def images(rows=ROWS):
    return pa.array([b"%06d" % row for row in range(rows)])


def by_prefix(rows=ROWS):
    """Return cells of which each begins like the one before: DELTA_BYTE_ARRAY writes that as a number."""
    return pa.array([LONG] * rows, pa.large_string())


def test_list_of_millions_among_empty_ones_is_refused_before_it_is_read(tmp_path):
    many, num_rows = 20_000_000, 250_000
    ends = np.concatenate([[0], np.full(num_rows, many)]).astype(np.int32)
    tags = pa.ListArray.from_arrays(ends, pa.array(np.zeros(many, np.int8)))
    table = tmp_path / "x.parquet"
    pq.write_table(pa.table({"tags": tags}), table, compression="zstd")
    assert table.stat().st_size < 10_000
    assert lists_of_labels(table, ["tags"]) == {"tags"}
    tracemalloc.start()
    with pytest.raises(UnreadableTableError, match="no table of labels is that large"):
        next(Cells(table, ["tags"]).in_group(0))
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("in_lists", [False, True])
def test_labels_of_gigabytes_in_a_dictionary_are_unreadable_rows(raw, in_lists):
    codes = pa.array(np.zeros(ROWS, dtype=np.int8))
    label = pa.DictionaryArray.from_arrays(codes, [LONG])
    label = pa.ListArray.from_arrays(np.arange(ROWS + 1, dtype=np.int32), label) if in_lists else label
    table = pa.table({"image": images(), "label": label})
    pq.write_table(table, raw / "x.parquet", store_schema=False, compression="zstd")
    assert (raw / "x.parquet").stat().st_size < 200_000
    defects = scanned(raw)
    assert len(defects) == ROWS
    assert set(defects["reason"][1000:]) <= {"unreadable_row", "not_an_image"}
    assert defects["detail"].str.contains("no table of labels is that large").sum() > ROWS / 2


def test_labels_of_gigabytes_that_repeat_their_beginning_are_unreadable_rows(raw):
    few = 500
    table = pa.table({"image": images(few), "label": by_prefix(few)})
    pq.write_table(
        table,
        raw / "x.parquet",
        store_schema=False,
        use_dictionary=False,
        column_encoding={"label": "DELTA_BYTE_ARRAY"},
    )
    assert (raw / "x.parquet").stat().st_size < 1_000_000
    assert scanned(raw)["detail"].str.contains("no table of labels is that large").sum() > few / 2


def test_sparse_table_is_refused_by_its_size(raw):
    with (raw / "labels.csv").open("wb") as file:
        file.write(b"path,label\n")
        file.truncate(6 * 10**9)
    [reason], [detail] = scanned(raw)[["reason", "detail"]].to_numpy().T
    assert reason == "unreadable_table"
    assert detail == "6000000000 bytes, expected at most 1073741824: no table of labels is that large"


@pytest.mark.parametrize("name", ["labels.csv", "metadata.jsonl"])
def test_line_of_hundreds_of_megabytes_is_never_a_row(raw, name):
    with (raw / name).open("wb") as file:
        file.write(b"path,label\n" if name == "labels.csv" else b'{"path": "1.png", "label": "x"}\n')
        file.truncate(300_000_000)
    assert set(scanned(raw)["reason"]) <= {"unreadable_row", "missing_file"}


def test_folder_a_thousand_deep_is_a_defect(raw):
    with deep_folder(raw, file=b"deep"):
        defects = scanned(raw)
    assert defects["reason"].tolist() == ["too_deep"]


def test_numbers_of_gigabytes_are_unreadable_rows(raw):
    rows, zeros = 60_000, pa.array(np.zeros(60_000, dtype=np.int8))
    pictures = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype=np.int32)), pa.array([b"x"]))
    columns = {"image": pictures} | {f"column_{number}": zeros for number in range(900)}
    pq.write_table(pa.table(columns), raw / "x.parquet", store_schema=False, compression="zstd")
    assert (raw / "x.parquet").stat().st_size < 1_000_000
    assert scanned(raw)["detail"].str.contains("no table of labels is that large").sum() > rows / 2


def test_lines_of_json_with_ever_new_keys_are_an_unreadable_table(raw):
    """Each key would be a column of every row."""
    first = '{"path": "1.png", "label": "x"}\n' * 1001
    lines = "".join("{" + ", ".join(f'"{line}_{key}": 1' for key in range(500)) + "}\n" for line in range(1000))
    (raw / "metadata.jsonl").write_text(first + lines)
    defects = scanned(raw)
    assert defects["detail"][defects["reason"] == "unreadable_table"].tolist() == [
        "more than 1000 different keys up to line 1003"
    ]
