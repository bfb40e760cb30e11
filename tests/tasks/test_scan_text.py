"""Scan and validate of batches of texts: each row and file is a sample or a defect, and no text leaks."""

import json
import logging

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.scan import run
from tasks.stage.params import ScanParams

PRIVATE = "call 0123 456789"


@pytest.fixture
def scan(tmp_path):
    def go(raw, **changes):
        settings = {"text_columns": None, "encoding": None, "min_characters": 1, "max_characters": 1000} | changes
        params = ScanParams(
            min_image_size=8, max_image_pixels=10_000, max_file_bytes=100_000, max_decode_seconds=5.0, **settings
        )
        run(raw=raw, out=tmp_path / "scanned", scan=params, modality="text")
        defects = pd.read_parquet(tmp_path / "scanned" / "defects.parquet")
        return pd.read_parquet(tmp_path / "scanned" / "samples.parquet"), defects

    return go


@pytest.fixture
def batch(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


def reasons(defects):
    return dict(zip(defects["path"], defects["reason"], strict=True))


def test_text_has_its_facts(scan, batch, caplog):
    (batch / "x.csv").write_text("text,label,words\nWall St. #39;s bears,a,7\ntwo words,b,8\n", "utf-8")
    with caplog.at_level(logging.INFO):
        samples, defects = scan(batch)
    assert defects.empty
    assert samples[["path", "characters", "words", "has_markup", "label"]].to_numpy().tolist() == [
        ["x.csv/text/0", 20, 4, True, "a"], ["x.csv/text/1", 9, 2, False, "b"],
    ]  # fmt: skip
    assert "2 samples, 1 of them with remains of HTML, 0 defects" in caplog.text


def test_text_that_cannot_be_used_has_its_reason(scan, batch):
    surrogate = '"\\ud83d"'
    cells = ['"one"', '""', '" \\t "', '"\\u200b\\ufeff"', "null", surrogate, "5", '{"a": 1}', json.dumps("x" * 1001)]
    lines = [f'{{"text": {cell}, "label": "a"}}' for cell in cells]
    (batch / "x.jsonl").write_text("\n".join([*lines, '{"label": "a"}', "{"]), "utf-8")
    samples, defects = scan(batch)
    assert samples["path"].tolist() == ["x.jsonl/text/00"]
    assert list(reasons(defects).values()) == [
        *["no_text"] * 4, *["not_text"] * 3, "too_many_characters", "no_text", "unreadable_row",
    ]  # fmt: skip
    assert defects["detail"].ne("").all()


def test_missing_cell_of_parquet_has_no_text(scan, batch):
    pq.write_table(pa.table({"text": ["one", None, ""], "label": ["a", "b", "c"]}), batch / "x.parquet")
    samples, defects = scan(batch)
    assert len(samples) == 1
    assert reasons(defects) == {"x.parquet/text/1": "no_text", "x.parquet/text/2": "no_text"}


def test_file_that_is_no_text_has_its_reason(scan, batch):
    files = {
        "1.txt": b"one", "2.txt": b"", "3.txt": b"%PDF-1.4 plain", "4.txt": b"PK\3\4", "5.txt": bytes(range(256)),
        "6.txt": "café".encode("cp1252"), "7.txt": "wide text".encode("utf-16-le"), "8.txt": b"x" * 100_001,
        "README.md": b"# Texts", "deep/.DS_Store": b"\0\0\0\1Bud1",
    }  # fmt: skip
    for name, content in files.items():
        (batch / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (batch / "a" / name).write_bytes(content)
    samples, defects = scan(batch)
    assert samples["path"].tolist() == ["a/1.txt"]
    assert reasons(defects) == {
        "a/2.txt": "no_text", **dict.fromkeys(["a/3.txt", "a/4.txt", "a/5.txt", "a/6.txt"], "not_text"),
        "a/7.txt": "not_text", "a/8.txt": "too_many_bytes", "a/README.md": "not_a_sample",
        "a/deep/.DS_Store": "not_a_sample",
    }  # fmt: skip
    details = dict(zip(defects["path"], defects["detail"], strict=True))
    assert details["a/3.txt"] == "a PDF document: save it as text"
    assert "scan.encoding" in details["a/6.txt"]
    assert "UTF-16 without a mark" in details["a/7.txt"]


def test_ledger_and_log_hold_no_text(scan, batch, caplog):
    lines = [f"text,label\n{PRIVATE},a\n", f"{PRIVATE},b,c\n", f'"{PRIVATE}" x,a\n', f'"{PRIVATE * 100}",a\n']
    (batch / "x.csv").write_text("".join(lines), "utf-8")
    (batch / "y.jsonl").write_text(f'{{"text": "{PRIVATE}"}}\n{{"text": "{PRIVATE}', "utf-8")
    with caplog.at_level(logging.DEBUG):
        samples, defects = scan(batch)
    assert (len(samples), len(defects)) == (2, 4)
    assert "0123" not in samples.to_csv() + defects.to_csv() + caplog.text


def test_same_text_in_any_layout_is_one_sample(scan, batch):
    (batch / "a").mkdir()
    (batch / "a/1.txt").write_text("one\ntwo\n", "utf-8")
    (batch / "x.csv").write_text('text,label\n"one\r\ntwo",a\n', "utf-8")
    (batch / "y.jsonl").write_text('{"text": "one\\ntwo", "label": "a"}', "utf-8")
    pq.write_table(pa.table({"text": ["one\ntwo"], "label": ["a"]}), batch / "z.parquet")
    samples, _ = scan(batch)
    assert len(samples) == 4
    assert samples["sample_id"].nunique() == 1


def test_texts_of_a_language_of_large_characters_are_counted_in_characters(scan, batch):
    (batch / "x.csv").write_text("text\n" + "語" * 1000 + "\n", "utf-8")
    samples, _ = scan(batch)
    assert samples["characters"].tolist() == [1000]


@pytest.mark.usefixtures("great_expectations")
def test_texts_are_validated_without_the_facts_of_images(shell, workspace):
    """From raw rows to manifest, as DVC runs both."""
    params = (workspace / "params.yaml").read_text("utf-8").replace("modality: images", "modality: text")
    (workspace / "params.yaml").write_text(params, "utf-8")
    raw = workspace / "data/raw/b1"
    raw.mkdir(parents=True)
    rows = [f"<b>text</b> number {number} of its class,{'ab'[number % 2]}" for number in range(200)]
    (raw / "news.csv").write_text("\n".join(["text,label", *rows, "one cell", rows[0]]), "utf-8")
    (workspace / "batches.yaml").write_text("batches: [b1]\n", "utf-8")
    (workspace / "classes.json").write_text('{"version": 0, "classes": {}}', "utf-8")
    assert shell("scan", "--raw", raw, "--out", "scanned/b1").status == 0
    done = shell(
        "validate", "--scanned", "scanned", "--batches", "batches.yaml", "--registry", "classes.json",
        "--corrections", "corrections.csv", "--out", "validated",
    )  # fmt: skip
    assert done.status == 0, done.stderr
    assert "texts have remains of HTML, such as <b> or &lt;: 100.0% of batch b1, expected at most 10.0%" in done.stderr
    report = json.loads((workspace / "validated/validation.json").read_text("utf-8"))
    assert report["batches"]["b1"] == {
        "in": 202, "used": 200, "pool": 0, "quarantined.unreadable_row": 1, "quarantined.exact_duplicate": 1,
    }  # fmt: skip
    manifest = pd.read_parquet(workspace / "validated/manifest/b1.parquet")
    assert {"characters", "words", "has_markup", "label"} <= set(manifest)
