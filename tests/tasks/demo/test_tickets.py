"""The demo's tickets: the same at each call, in a table that has what real ones have."""

import csv
import io
from collections import Counter

import pytest

from tasks.demo.phrases import MATTERS
from tasks.demo.tickets import BATCHES, run


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The rows of each batch, as a reader of CSV sees them."""
    folder = tmp_path_factory.mktemp("tickets")
    for name in BATCHES:
        run(out=folder / name)
    return {name: rows_of(folder / name) for name in BATCHES}


def rows_of(batch):
    return list(csv.DictReader(io.StringIO((batch / "tickets.csv").read_bytes().decode(), newline="")))


def test_batches_are_the_same_at_each_call(tables, tmp_path):
    name = "tickets-summer"
    run(out=tmp_path / name)
    assert rows_of(tmp_path / name) == tables[name]


def test_every_label_has_its_share_and_rows_are_as_many_as_said(tables):
    for name, rows in tables.items():
        counts = Counter(row["label"] for row in rows)
        assert sum(counts[label] for label in MATTERS) >= BATCHES[name]
        assert min(counts[label] for label in MATTERS) > BATCHES[name] / 8
        assert counts[""] == 20


def test_tickets_have_line_breaks_copies_and_rows_that_are_no_samples(tables):
    for rows in tables.values():
        texts = [row["text"] for row in rows]
        assert sum("\n" in text for text in texts) > len(texts) / 2
        assert sum(text.startswith("FW: ") for text in texts) > 2
        assert "" in texts
        assert len(set(texts)) < len(texts)
        assert not any("{" in text for text in texts)


def test_batches_share_no_ticket(tables):
    spring, summer = ({row["text"] for row in rows if row["text"].strip("\u200b \n")} for rows in tables.values())
    assert not spring & summer


def test_other_batch_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="call it tickets-spring or tickets-summer"):
        run(out=tmp_path / "tickets")
