"""Write tables of texts with damaged rows among whole ones, scan them, and count the rows that are lost or invented."""

import csv
import io
import json
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

BATCH = "tables"
NUM_ROWS = 40
NUM_DAMAGED = 2  # rows of a table
# what whole texts are made of
PIECES = (
    "plain words", "commas, semicolons; and\ttabs", 'a "quoted" word', "two\nlines", "NA", "null", "1.0", "-1", "=1+1",
    "日本語", "עברית", "e\u0301", "[SEP]", "<b>bold</b>", "&amp;", "\\n", "'", '"', "x" * 3000, "🙂", "\u00a0", "#39;",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with its damaged rows: the ids of the texts of whole rows, and of those that may come of damaged ones."""

    name: str
    content: bytes
    whole: list[str]
    num_rows: int


def fuzz(place: Path, params: Params, *, num_tables: int) -> dict[str, Any]:
    """Return how many rows of the tables were whole, and how many of these were lost or invented."""
    show(f"{num_tables} tables with damaged rows")
    chance = np.random.default_rng(0)
    tables = [make_table(chance, number) for number in range(num_tables)]
    raw = place / "raw" / BATCH
    raw.mkdir(parents=True)
    for table in tables:
        (raw / table.name).write_bytes(table.content)
    scan.run(raw=raw, out=place / "scanned", scan=params.scan, modality="text")
    samples, defects = (pd.read_parquet(place / "scanned" / f"{name}.parquet") for name in ("samples", "defects"))
    defects = defects[defects["reason"] != NOT_A_SAMPLE]
    lost, surplus, by_table = 0, 0, {}
    for table in tables:
        ids = samples.loc[samples["path"].str.startswith(table.name), "sample_id"].tolist()
        num_defects = int(defects["path"].str.startswith(table.name).sum())
        missing = len(set(table.whole) - set(ids))
        # a whole row may be lost only where the row beside it tore it: that is then a defect, or a longer text
        extra = max(len(ids) + num_defects - table.num_rows, 0)
        lost, surplus = lost + missing, surplus + extra
        if missing or extra:
            by_table[table.name] = {"lost": missing, "invented": extra, "samples": len(ids), "defects": num_defects}
    return {
        "tables": num_tables, "rows": sum(table.num_rows for table in tables), "lost": lost, "invented": surplus,
        "whole": sum(len(table.whole) for table in tables), "defects": len(defects), "by_table": by_table,
        "reasons": defects["reason"].value_counts().to_dict(),
    }  # fmt: skip


def make_table(chance: Generator, number: int) -> Table:
    texts = [make_text(chance, number, row) for row in range(NUM_ROWS)]
    damaged = set(chance.choice(NUM_ROWS, NUM_DAMAGED, replace=False).tolist())
    make, ending, damages = KINDS[number % len(KINDS)]
    lines = [
        damages[int(chance.integers(len(damages)))](text) if row in damaged else make(text)
        for row, text in enumerate(texts)
    ]
    end = b"\r\n" if chance.random() < 0.3 and ending != ".jsonl" else b"\n"
    head = b"" if ending == ".jsonl" else make_header(make)
    content = end.join([*([head] if head else []), *lines]) + (end if chance.random() < 0.7 else b"")
    mark = b"\xef\xbb\xbf" if chance.random() < 0.2 else b""
    whole = [sample_id(canonical([text])) for row, text in enumerate(texts) if row not in damaged]
    return Table(name=f"{number:03d}{ending}", content=mark + content, whole=whole, num_rows=NUM_ROWS)


def make_text(chance: Generator, number: int, row: int) -> str:
    pieces = chance.choice(len(PIECES), size=int(chance.integers(1, 6)))
    return " ".join([f"{number}/{row}", *(PIECES[piece] for piece in pieces)])


def make_header(make: Callable[[str], bytes]) -> bytes:
    return make("text").replace(b"label-of-it", b"label")


def separated(text: str, *, delimiter: str) -> bytes:
    line = io.StringIO()
    csv.writer(line, delimiter=delimiter, lineterminator="").writerow([text, "label-of-it"])
    return line.getvalue().encode()


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
