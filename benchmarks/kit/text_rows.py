"""Write tables of texts with damaged rows among whole ones, scan them, and count the rows that are lost or invented."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import Generator

from benchmarks.kit.machine import show
from tasks import scan
from tasks.data.raw.entries import NOT_A_SAMPLE
from tasks.data.samples.samples import sample_id
from tasks.data.samples.text_cells import canonical
from tasks.stage.params import Params

NUM_ROWS = 40
NUM_DAMAGED = 2  # rows of a table
# the words of whole texts
PIECES = (
    "plain words", "commas, semicolons; and\ttabs", 'a "quoted" word', "two\nlines", "NA", "null", "1.0", "-1", "=1+1",
    "日本語", "עברית", "e\u0301", "[SEP]", "<b>bold</b>", "&amp;", "\\n", "'", '"', "x" * 3000, "🙂", "\u00a0", "#39;",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with damaged rows, the ids of the texts of its whole rows, and whether a row has half a pair of quotes.

    The end of a row with half a pair of quotes cannot be found, so that a scan may refuse its table, with the line.
    """

    name: str
    content: bytes
    whole: list[str]
    may_be_refused: bool


def fuzz(place: Path, params: Params, *, num_tables: int) -> dict[str, Any]:
    """Return the numbers of rows that were lost without a message, and of samples that are in no table."""
    show(f"{num_tables} tables with damaged rows")
    chance = np.random.default_rng(0)
    counts: Counter[str] = Counter(tables=num_tables, rows=num_tables * NUM_ROWS)
    wrong = {}
    for number in range(num_tables):
        table = make_table(chance, number)
        outcome = scan_table(place / str(number), table, params)
        counts.update(outcome)
        if outcome["lost"] or outcome["invented"]:
            wrong[table.name] = dict(outcome)
    return {**counts, "wrong": wrong}


def scan_table(place: Path, table: Table, params: Params) -> Counter[str]:
    """Scan a table, and return how many rows are samples and defects, and how many are lost or invented.

    A row is lost if it has neither a sample nor a defect. A sample is invented if its text is that of no whole row,
    beyond one for each damaged row. A whole row beside a damaged one may be a defect: then the scan reports it.
    """
    raw = place / "raw" / "tables"
    raw.mkdir(parents=True)
    (raw / table.name).write_bytes(table.content)
    try:
        scan.run(raw=raw, out=place / "scanned", scan=params.scan, modality="text")
    except ValueError as error:
        names_line = re.search(r"line \d+", str(error)) is not None
        return Counter(refused=1, lost=0 if table.may_be_refused and names_line else NUM_ROWS)
    samples, defects = (pd.read_parquet(place / "scanned" / f"{name}.parquet") for name in ("samples", "defects"))
    num_defects = int((defects["reason"] != NOT_A_SAMPLE).sum())
    others = len(set(samples["sample_id"]) - set(table.whole))
    return Counter(
        samples=len(samples),
        defects=num_defects,
        lost=max(NUM_ROWS - len(samples) - num_defects, 0),
        invented=max(others - (NUM_ROWS - len(table.whole)), 0),
        whole_but_defects=len(set(table.whole) - set(samples["sample_id"])),
    )


def make_table(chance: Generator, number: int) -> Table:
    texts = [make_text(chance, number, row) for row in range(NUM_ROWS)]
    make, ending, damages = KINDS[number % len(KINDS)]
    damaged = {int(row): damages[int(chance.integers(len(damages)))] for row in chance.choice(NUM_ROWS, NUM_DAMAGED)}
    lines = [damaged[row](text) if row in damaged else make(text) for row, text in enumerate(texts)]
    end = b"\r\n" if chance.random() < 0.3 and ending != ".jsonl" else b"\n"
    head = [] if ending == ".jsonl" else [make("text").replace(b"label-of-it", b"label")]
    mark = b"\xef\xbb\xbf" if chance.random() < 0.2 else b""
    return Table(
        name=f"{number:03d}{ending}",
        content=mark + end.join([*head, *lines]) + (end if chance.random() < 0.7 else b""),
        whole=[sample_id(canonical([text])) for row, text in enumerate(texts) if row not in damaged],
        may_be_refused=any(damage(texts[0]).count(b'"') % 2 for damage in damaged.values()),
    )


def make_text(chance: Generator, number: int, row: int) -> str:
    pieces = chance.choice(len(PIECES), size=int(chance.integers(1, 6)))
    return " ".join([f"{number}/{row}", *(PIECES[piece] for piece in pieces)])


def separated(text: str, *, delimiter: str) -> bytes:
    line = io.StringIO()
    csv.writer(line, delimiter=delimiter).writerow([text, "label-of-it"])
    return line.getvalue().removesuffix("\r\n").encode()


def json_line(text: str) -> bytes:
    return json.dumps({"text": text, "label": "label-of-it"}, ensure_ascii=False).encode()


def comma(text: str) -> bytes:
    return separated(text, delimiter=",")


def tab(text: str) -> bytes:
    return separated(text, delimiter="\t")


# each makes one row that cannot be a sample as it stands, or that only a careful reader reads
DAMAGES: list[Callable[[str], bytes]] = [
    lambda text: b'"an unbalanced quote,label-of-it',
    lambda text: b'an unbalanced quote at the end",label-of-it',
    lambda text: b"bytes that are not UTF-8 \xff\xfe,label-of-it",
    lambda text: b"a,cell,too many,label-of-it",
    lambda text: b"a cell too few",
    lambda text: comma("long lines\n" * 20_000),
    lambda text: comma("\u200b \u200b"),
    lambda text: b"a zero \0 byte,label-of-it",
]
TAB_DAMAGES: list[Callable[[str], bytes]] = [
    lambda text, damage=damage: damage(text).replace(b",", b"\t")  # type: ignore[misc]
    for damage in DAMAGES
]
JSON_DAMAGES: list[Callable[[str], bytes]] = [
    lambda text: b'{"text": "broken, "label": "label-of-it"}',
    lambda text: b'{"text": "half a pair \\ud83d", "label": "label-of-it"}',
    lambda text: b'{"text": ["a", "list"], "label": "label-of-it"}',
    lambda text: b'{"text": 17, "label": "label-of-it"}',
    lambda text: b'{"text": "once", "text": "twice", "label": "label-of-it"}',
    lambda text: b'{"text": "bytes \xff\xfe", "label": "label-of-it"}',
    lambda text: b"[" * 3000,
    lambda text: b'{"label": "label-of-it"}',
]
KINDS = ((comma, ".csv", DAMAGES), (tab, ".tsv", TAB_DAMAGES), (json_line, ".jsonl", JSON_DAMAGES))
