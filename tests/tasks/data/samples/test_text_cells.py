"""The canonical bytes of a text by its path: of a file, or of a row of a table."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.data.samples.defects import DefectError
from tasks.data.samples.parquet_cells import UnreadableTableError
from tasks.data.samples.text_cells import canonical, place_of_file, place_of_rows, read_text

TEXT = "Café, “naïve”\nline"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_file_is_read_as_its_mark_says(tmp_path, encoding):
    (tmp_path / "note.txt").write_bytes(TEXT.replace("\n", "\r\n").encode(encoding))
    assert read_text(tmp_path / "note.txt") == canonical([TEXT])


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "utf-16-be"])
def test_encoding_stands_in_the_path_of_a_file_that_does_not_show_it(tmp_path, encoding):
    (tmp_path / "note.txt").write_bytes(TEXT.encode(encoding))
    assert read_text(tmp_path / place_of_file("note.txt", encoding=encoding)) == canonical([TEXT])
    assert read_text(tmp_path / "note.txt") == TEXT.encode(encoding)  # no text without its encoding


def test_last_line_end_of_a_file_is_not_the_texts(tmp_path):
    for name, content in {"a.txt": b"one\ntwo\n", "b.txt": b"one\r\ntwo"}.items():
        (tmp_path / name).write_bytes(content)
    assert read_text(tmp_path / "a.txt") == read_text(tmp_path / "b.txt")


def test_text_is_the_same_in_every_layout(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT, "utf-8")
    (tmp_path / "a.csv").write_bytes(('text;label\r\n"' + TEXT.replace("\n", "\r\n") + '";x\r\n').encode("utf-16"))
    (tmp_path / "a.tsv").write_text(f'text\n"{TEXT}"\n', "utf-8")
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": TEXT}), "utf-8")
    pq.write_table(pa.table({"text": [TEXT]}), tmp_path / "a.parquet")
    paths = ["a.txt", "a.csv/text/0", "a.tsv/text/0", "a.jsonl/text/0", "a.parquet/text/0"]
    assert {read_text(tmp_path / path) for path in paths} == {canonical([TEXT])}


@pytest.mark.parametrize("name", ["a/b", "a,b", "a;b", "..", "%2F", " a ", "\u00fc", 'say "a"'])
def test_column_of_any_name_is_found_again(tmp_path, name):
    (tmp_path / "a.jsonl").write_text(json.dumps({name: "one", "title": "two"}), "utf-8")
    place = place_of_rows(["title", name])
    assert "/" not in place
    assert not place.startswith(".")
    assert read_text(tmp_path / "a.jsonl" / place / "0") == canonical(["two", "one"])


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "shift_jis", "iso2022_jp"])
def test_table_is_read_in_the_encoding_that_its_path_names(tmp_path, encoding):
    text = "日本, \u2026" if "j" in encoding else "Café,\nnaïve"
    text = text.replace("\u2026", "語")
    (tmp_path / "a.csv").write_bytes(f'text,label\none,x\n"{text}",x\n'.encode(encoding))
    place = place_of_rows(["text"], encoding=encoding)
    assert read_text(tmp_path / "a.csv" / place / "1") == canonical([text])


def test_table_that_changed_is_looked_through_again(tmp_path):
    for content in ("text\none\ntwo\n", "text\nzero\n\none\ntwo and more\n"):
        (tmp_path / "a.csv").write_text(content, "utf-8")
        last = content.split("\n")[-2]
        number = content.count("\n") - content.count("\n\n") - 2
        assert read_text(tmp_path / f"a.csv/text/{number}") == canonical([last])


@pytest.mark.parametrize("path", ["a.csv/text/7", "a.csv/text/-1", "a.csv/text/x", "b.csv/text/0", "a.csv/text/0/1"])
def test_row_that_is_not_there_is_an_error(tmp_path, path):
    (tmp_path / "a.csv").write_text("text\none\n", "utf-8")
    with pytest.raises((UnreadableTableError, FileNotFoundError, NotADirectoryError)):
        read_text(tmp_path / path)


@pytest.mark.parametrize("value", [5, 1.5, True, ["a"], {"a": 1}])
def test_cell_that_is_no_text_is_not_made_one(tmp_path, value):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": value}), "utf-8")
    with pytest.raises(DefectError) as caught:
        read_text(tmp_path / "a.jsonl/text/0")
    assert caught.value.reason == "not_text"


def test_missing_cell_is_blank(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"title": "one", "body": null}\n{"title": "two"}', "utf-8")
    assert read_text(tmp_path / "a.jsonl/title,body/0") == canonical(["one", ""])
    assert read_text(tmp_path / "a.jsonl/title,body/1") == canonical(["two", ""])


def test_cell_of_parquet_that_is_not_utf8_costs_its_row_alone(tmp_path):
    column = pa.array([b"one", b"\xff", b"three"], pa.binary()).cast(pa.string(), safe=False)
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    assert read_text(tmp_path / "a.parquet/text/2") == canonical(["three"])
    with pytest.raises(UnreadableTableError):
        read_text(tmp_path / "a.parquet/text/1")
