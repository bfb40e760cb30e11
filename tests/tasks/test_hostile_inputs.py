"""What a stranger hands in: files that were changed, and names that give orders. The seeds of a failure are kept here.

`python -m benchmarks.hostile` tries many more, each in a process of its own.
"""

import logging
from contextlib import suppress
from io import BytesIO, StringIO

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.kit import hostile_inputs as inputs
from tasks.data.manifest.tables import write_plotted, write_text_table
from tasks.data.raw.entries import column, text
from tasks.data.raw.layouts import find_entries
from tasks.data.samples.defects import DefectError
from tasks.images.decode import inspect_content
from tasks.machine.names import OBEYED
from tasks.stage.params import load_params
from tasks.stage.shell import OneLine

SEEDS = st.integers(0, 2**32)


@pytest.mark.parametrize("name", inputs.FORMATS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(SEEDS)
def test_changed_picture_is_a_sample_or_a_defect(name, seed):
    limits = load_params(inputs.ROOT / "params.yaml").scan
    with suppress(DefectError):
        assert inspect_content(inputs.changed(inputs.picture(name), seed), limits=limits).width


@settings(max_examples=40, deadline=None, derandomize=True)
@given(SEEDS)
@example(2)
def test_changed_table_is_listed_or_refused_in_a_line(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("batch")
    inputs.put_table(folder, inputs.changed(b"path,label\n0.png,cat\n1.png,dog\n2.png,cat\n3.png,dog\n", seed))
    with suppress(ValueError):
        paths = {entry.path for entry in find_entries(folder / "raw", endings=(".png",))}
        assert {f"{number}.png" for number in range(4)} <= paths


@settings(max_examples=40, deadline=None, derandomize=True)
@given(SEEDS)
def test_changed_parquet_file_is_listed(tmp_path_factory, seed):
    file = tmp_path_factory.mktemp("batch") / "raw.parquet"
    file.write_bytes(inputs.changed(inputs.parquet(), seed))
    assert find_entries(file)


@pytest.mark.parametrize("name", inputs.NAMES.values(), ids=inputs.NAMES)
def test_no_line_of_a_log_can_be_forged(name):
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine())
    handler.handle(logging.LogRecord("graftline", logging.INFO, "", 0, "class %s waits", (name,), None))
    assert len(stream.getvalue().splitlines()) == 1
    assert not OBEYED.search(stream.getvalue())


@pytest.mark.parametrize("name", inputs.NAMES.values(), ids=inputs.NAMES)
def test_label_and_column_hold_nothing_that_a_terminal_obeys(name):
    assert not OBEYED.search(text(name))
    assert not OBEYED.search(column(name))


def test_ledger_has_a_line_a_row_and_no_formula(tmp_path):
    rows = pd.DataFrame({"path": list(inputs.NAMES.values())})
    write_text_table(tmp_path / "quarantine.csv", rows)
    lines = (tmp_path / "quarantine.csv").read_text("utf-8").splitlines()
    assert len(lines) == 1 + len(rows)
    assert all(line.isprintable() and not line.startswith('"=') for line in lines)


def test_file_of_a_plot_holds_no_markup(tmp_path):
    evil = inputs.NAMES["script"]
    write_plotted(tmp_path / "confusion.csv", pd.DataFrame({"label": [evil], f"val_accuracy.{evil}": [0.5]}))
    assert b"<" not in (tmp_path / "confusion.csv").read_bytes()
    assert pd.read_csv(BytesIO((tmp_path / "confusion.csv").read_bytes()))["label"][0].startswith("‹")
