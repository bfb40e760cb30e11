"""Batches of texts as people hand them in: tables of any layout and encoding, and files of class folders."""

import json
import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.data.raw.layouts import find_entries
from tasks.data.raw.options import TextTables
from tasks.data.samples.text_cells import canonical, read_text

ROWS = [("one", "a"), ("two", "b"), ("three", None)]


@pytest.fixture
def batch(tmp_path):
    folder = tmp_path / "batch"
    folder.mkdir()
    return folder


def entries(batch, *, columns=None, encoding=None):
    return find_entries(batch, endings=(".txt",), texts=TextTables(text_columns=columns, encoding=encoding))


def texts(batch, **options):
    """Return (text, label) by path; the reason of a row that cannot be used."""
    return {
        entry.path: entry.reason or (json.loads(read_text(batch / entry.path))[0], entry.said.get("label"))
        for entry in entries(batch, **options)
    }


def write(path, rows=ROWS):
    """Write rows of text and label in the format of the file's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table(dict(zip(("text", "label"), map(list, zip(*rows, strict=True)), strict=True))), path)
    elif path.suffix in (".jsonl", ".ndjson"):
        path.write_text("".join(json.dumps({"text": t, "label": n}) + "\n" for t, n in rows), "utf-8")
    else:
        mark = "\t" if path.suffix in (".tsv", ".tab") else ","
        path.write_text("".join(f"{mark.join((t, n or ''))}\n" for t, n in [("text", "label"), *rows]), "utf-8")


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.tab", "x.jsonl", "x.ndjson", "x.parquet", "deep/er/X.csv"])
def test_row_of_a_table_at_any_depth_is_a_sample(batch, name):
    write(batch / name)
    assert texts(batch) == {f"{name}/text/{number}": row for number, row in enumerate(ROWS)}


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_single_table_is_a_batch(tmp_path, name):
    write(tmp_path / name)
    assert texts(tmp_path / name) == {f"text/{number}": row for number, row in enumerate(ROWS)}


def test_paths_of_rows_sort_in_their_order(batch):
    write(batch / "x.csv", [(f"text {number}", "a") for number in range(11)])
    assert list(texts(batch)) == sorted(texts(batch))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_tables_called_after_splits_are_the_split(batch, ending):
    for name in ("train", "validation-00000-of-00001", "test"):
        write(batch / f"{name}.{ending}")
    splits = {entry.path.split(".")[0].split("-")[0]: entry.said["split"] for entry in entries(batch)}
    assert splits == {"train": "train", "validation": "val", "test": "heldout"}


def test_files_of_class_folders_and_tables_stand_beside_each_other(batch):
    write(batch / "x.csv", ROWS[:1])
    (batch / "a").mkdir()
    (batch / "a/1.txt").write_text("four", "utf-8")
    assert texts(batch) == {"x.csv/text/0": ("one", "a"), "a/1.txt": ("four", "a")}


@pytest.mark.parametrize("name", ["labels.csv", "metadata.jsonl"])
def test_table_of_paths_labels_the_files_beside_it(batch, name):
    rows = [("1.txt", "a"), ("2.txt", "b")]
    for path, label in rows:
        (batch / path).write_text(f"text of {label}", "utf-8")
    lines = [json.dumps({"path": p, "label": n}) for p, n in rows] if "json" in name else ["path,label", "1,a", "2,b"]
    (batch / name).write_text("\n".join(lines), "utf-8")
    write(batch / "more/x.csv", ROWS[:1])
    assert texts(batch) == {"1.txt": ("text of a", "a"), "2.txt": ("text of b", "b"), "more/x.csv/text/0": ("one", "a")}


def test_table_called_labels_that_holds_texts_is_a_table_of_texts(batch):
    write(batch / "labels.csv", ROWS[:1])
    assert texts(batch) == {"labels.csv/text/0": ("one", "a")}


def test_several_columns_make_a_text_in_the_order_of_the_parameter(batch):
    (batch / "x.csv").write_text("id,body,title,label\n7,the body,the title,a\n", "utf-8")
    [entry] = entries(batch, columns=["title", "body"])
    assert entry.path == "x.csv/title,body/0"
    assert entry.said == {"id": "7", "label": "a"}
    assert read_text(batch / entry.path) == canonical(["the title", "the body"])


@pytest.mark.parametrize("header", ["Text", " TEXT ", "sentence", "Content", "body", "message"])
def test_column_with_a_usual_name_is_the_text(batch, header):
    (batch / "x.csv").write_text(f"{header},label\none,a\n", "utf-8")
    assert list(texts(batch).values()) == [("one", "a")]


@pytest.mark.parametrize("text", ["NA", "null", "None", "nan", "1.0", "TRUE", "[SEP]", "=1+1", "0123", "1e5", "N/A"])
@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_text_is_never_taken_for_a_number_or_for_missing(batch, name, text):
    write(batch / name, [(text, "a")])
    assert list(texts(batch).values()) == [(text, "a")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_table_is_read_as_its_mark_says(batch, encoding):
    (batch / "x.csv").write_bytes('text,label\r\n"Café\r\nau lait",ä\r\n'.encode(encoding))
    assert texts(batch) == {"x.csv/text/0": ("Café\nau lait", "ä")}


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le"])
def test_table_is_read_in_the_encoding_of_the_parameter(batch, encoding):
    (batch / "x.csv").write_bytes("text,label\nCafé,ä\nNaïve,ö\n".encode(encoding))
    (batch / "y.csv").write_bytes("text,label\nÀ la carte,ä\n".encode())  # UTF-8 shows itself
    (batch / "z.txt").write_bytes("Crème".encode(encoding))
    assert texts(batch, encoding=encoding) == {
        f"x.csv/text;{encoding}/0": ("Café", "ä"), f"x.csv/text;{encoding}/1": ("Naïve", "ö"),
        "y.csv/text/0": ("À la carte", "ä"), f"z.txt/;{encoding}": ("Crème", None),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\nCafé,ä\nNaïve,ö\n".encode("cp1252"), "x.csv: 2 of its lines are not UTF-8 .*scan.encoding"),
        ("text,label\none,a\n".encode("utf-16-le"), "x.csv: it looks like UTF-16 without a mark.*scan.encoding"),
        (b"id,words,label\n1,one,a\n", "columns 'id', 'words', 'label'; expected one column .*scan.text_columns"),
        (b"text,message,label\none,two,a\n", "expected one column of the text"),
        (b"text,Label,label\none,a,b\n", "column 'label' appears twice"),
        (b'"text,label\none,a\n', "a quote in its header"),
        (b"text,label\n\"one\n two\",a\n\"three,b\n\"four\n five\",a\n", "line 4 has an odd number of quotes"),
    ],
)  # fmt: skip
def test_table_that_would_lose_its_rows_stops_the_scan(batch, content, message):
    (batch / "x.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        entries(batch)


def test_text_of_a_table_without_a_header_stands_in_no_message(batch):
    (batch / "x.csv").write_text("neg,My telephone number is 0123 456 and I hated it\npos,fine\n", "utf-8")
    with pytest.raises(ValueError, match=r"columns 'neg', \(a cell of 46 characters\); .* Is its first line no header"):
        entries(batch)


def test_column_that_a_batch_lacks_is_refused_by_name(batch):
    write(batch / "x.csv")
    with pytest.raises(ValueError, match=r"columns 'text', 'label'; expected 'title', 'text', as scan.text_columns"):
        entries(batch, columns=["title", "text"])


@pytest.mark.parametrize("name", ["label", "Split", "path"])
def test_column_that_cannot_be_a_text_is_refused(name):
    with pytest.raises(ValueError, match="which is no text"):
        TextTables(text_columns=["title", name], encoding=None)


def test_unknown_encoding_is_refused():
    with pytest.raises(ValueError, match="the encoding 'latin-99' is unknown, expected a name such as cp1252"):
        TextTables(text_columns=None, encoding="latin-99")


@pytest.mark.parametrize(
    ("name", "content", "detail"),
    [
        ("x.csv", "text,label\none,a\nné,b\ntwo,a\n".encode("latin-1"), "line 3: its bytes are not utf-8"),
        ("x.csv", b"text,label\none,a\ntwo\nthree,b\n", "line 3: 1 cells, expected 2"),
        ("x.csv", b'text,label\none,a\n"say "hi"",b\ntwo,a\n', "line 3: its quotes do not fit"),
        ("x.csv", b"text,split\none,train\ntwo,tain\nthree,val\n", "split is 'tain'"),
        ("x.jsonl", b'{"text": "one"}\n{"text": \n\n{"text": "two"}', "line 2: no JSON object"),
        ("x.jsonl", b'{"text": "one"}\n{"text": "a", "text": "b"}\n{"text": "two"}', "line 2: it has a key twice"),
        ("x.jsonl", b'{"text": "one"}\n' + b"[" * 100_000 + b'\n{"text": "two"}', "line 2: no JSON object"),
        ("x.jsonl", b'\xef\xbb\xbf{"text": "one"}\n"two"\n{"text": "three"}', "line 2: no JSON object"),
        ("x.jsonl", b'{"text": "one"}\n{"text": "a", "label": "\\ud83d"}\n{"text": "two"}', "not UTF-8"),
    ],
)
def test_damaged_row_costs_no_other(batch, name, content, detail):
    (batch / name).write_bytes(content)
    first, bad, last = entries(batch)
    assert (first.reason, bad.reason, last.reason) == ("", "unreadable_row", "")
    assert bad.path == f"{name}/text/1"
    assert detail in bad.detail


def test_header_in_the_middle_of_a_table_is_no_sample(batch, caplog):
    write(batch / "x.csv", [ROWS[0], ("text", "label"), ROWS[1]])
    with caplog.at_level(logging.WARNING):
        reasons = [entry.reason for entry in entries(batch)]
    assert reasons == ["", "not_a_sample", ""]
    assert "x.csv: line 3 is the header again" in caplog.text


@pytest.mark.parametrize(
    ("name", "content"), [("x.csv", b""), ("x.csv", b"text,label\n\n"), ("x.jsonl", b"\n"), ("x.parquet", b"PAR1")]
)
def test_table_without_rows_is_a_defect(batch, name, content):
    (batch / name).write_bytes(content)
    assert texts(batch) == {name: "unreadable_table"}


def test_list_of_labels_is_read_as_json(batch):
    (batch / "x.jsonl").write_text(
        '{"text": "one", "labels": ["b", "a "], "split": ["x"]}\n{"text": "two", "labels": []}\n', "utf-8"
    )
    said = [dict(entry.said) for entry in entries(batch) if not entry.reason]
    assert said == [{"labels": '["b","a"]'}, {"labels": "[]"}]


def test_objects_as_labels_are_refused_by_name(batch):
    (batch / "x.jsonl").write_text('{"text": "one", "labels": [{"name": "a"}, {"name": "b"}]}\n', "utf-8")
    [named] = [entry for entry in entries(batch) if entry.reason]
    assert named.reason == "unreadable_table"
    assert named.detail.startswith("column labels holds several values a row; a target has one")


def test_classes_that_hugging_face_numbers_have_their_names(batch):
    features = {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}
    table = pa.table({"text": ["one", "two"], "label": [1, 0]})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), batch / "train-00000-of-00001.parquet")
    assert [label for _, label in texts(batch).values()] == ["pos", "neg"]


@pytest.mark.parametrize("name", ["news.xlsx", "news.csv.gz", "news.json"])
def test_table_that_is_not_read_stops_the_scan(batch, name):
    (batch / name).write_text('[{"text": "one", "label": "a"}]', "utf-8")
    with pytest.raises(ValueError, match=f"{name} is not read .*expected a table of texts"):
        entries(batch)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([b"", b"{}", b"{", b"1", b'{"text": "a"}', b'{"text": 1}', b'{"a":1,"a":2}'])))
def test_every_line_of_json_is_a_row_or_a_defect(batch, lines):
    (batch / "x.jsonl").write_bytes(b"\n".join([b'{"text": "first"}', *lines]))
    found = entries(batch)
    assert len(found) == 1 + sum(map(bool, lines))
    assert sum(not entry.reason for entry in found) == 1 + sum(
        line in (b"{}", b'{"text": "a"}', b'{"text": 1}') for line in lines
    )
