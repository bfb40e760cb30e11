"""Batches as people hand them in: splits as folders, tables of other tools, and files that lie beside."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.data.raw.layouts import find_entries
from tasks.images.decode.other_files import ENDINGS


@pytest.fixture
def batch(tmp_path):
    folder = tmp_path / "batch"
    folder.mkdir()
    return folder


def put(batch, *paths, content=b""):
    for path in paths:
        (batch / path).parent.mkdir(parents=True, exist_ok=True)
        (batch / path).write_bytes(content)


def said(batch):
    """Return (label, split) by path, or the reason of a defect."""
    return {
        entry.path: entry.reason or (entry.said.get("label"), entry.said.get("split"))
        for entry in find_entries(batch, endings=ENDINGS)
    }


@pytest.mark.parametrize(
    "names",
    [("train", "val", "test"), ("Training", "VALID", "Testing"), ("train", "dev", "heldout"), ("train", "val", "Eval")],
)
def test_level_of_split_names_is_the_split(batch, names):
    train, val, test = names
    put(batch, f"{train}/cat/1.png", f"{train}/dog/1.png", f"{val}/cat/1.png", f"{test}/dog/deep/1.png")
    assert said(batch) == {
        f"{train}/cat/1.png": ("cat", "train"),
        f"{train}/dog/1.png": ("dog", "train"),
        f"{val}/cat/1.png": ("cat", "val"),
        f"{test}/dog/deep/1.png": ("dog", "heldout"),
    }


def test_level_of_split_names_may_stand_in_each_class_folder(batch):
    put(batch, "cat/train/1.png", "cat/test/1.png", "dog/train/1.png")
    assert said(batch) == {
        "cat/train/1.png": ("cat", "train"),
        "cat/test/1.png": ("cat", "heldout"),
        "dog/train/1.png": ("dog", "train"),
    }


def test_folder_around_the_split_is_no_class(batch):
    put(batch, "birds_v2/train/cat/1.png", "birds_v2/test/cat/1.png", "birds_v2/README.md")
    assert said(batch) == {
        "birds_v2/train/cat/1.png": ("cat", "train"),
        "birds_v2/test/cat/1.png": ("cat", "heldout"),
        "birds_v2/README.md": (None, None),
    }


def test_folder_called_test_beside_class_folders_has_no_labels(batch):
    put(batch, "cat/1.png", "dog/1.png", "test/1.png")
    assert said(batch) == {"cat/1.png": ("cat", None), "dog/1.png": ("dog", None), "test/1.png": (None, "heldout")}


def test_folder_called_test_beside_class_folders_may_hold_class_folders(batch):
    put(batch, "cat/1.png", "dog/1.png", "test/dog/1.png")
    assert said(batch)["test/dog/1.png"] == ("dog", "heldout")


@pytest.mark.parametrize("name", ["train", "valid"])
def test_class_that_is_called_like_a_split_stays_a_class(batch, name):
    put(batch, f"{name}/1.png", "invalid/1.png", "plane/1.png")
    assert said(batch)[f"{name}/1.png"] == (name, None)


def test_class_that_is_called_like_a_split_and_holds_folders_as_the_others_do_stays_a_class(batch):
    put(batch, "valid/2024/1.png", "valid/2025/1.png", "invalid/2024/1.png")
    assert said(batch)["valid/2024/1.png"] == ("valid", None)


def test_folder_that_may_be_a_class_or_a_split_is_asked_about(batch):
    put(batch, "train/steam/1.png", "train/diesel/1.png", "plane/1.png")
    message = (
        r"batch: the folder 'train' holds the folders 'diesel', 'steam' and stands beside 'plane': if it is the split"
    )
    with pytest.raises(ValueError, match=message):
        said(batch)


def test_split_of_which_only_train_has_labels_divides_nothing(batch):
    """Without a side to judge on the run would stop; a hash divides these samples, as it divides others."""
    put(batch, "train/cat/1.png", "test/1.png")
    assert said(batch) == {"train/cat/1.png": ("cat", None), "test/1.png": (None, "heldout")}


def test_folders_called_after_splits_are_the_split_of_a_tables_rows(batch):
    put(batch, "train/1.png", "test/2.png", "test/3.png")
    put(batch, "labels.csv", content=b"path,label\ntrain/1.png,cat\ntest/2.png,cat\n")
    assert said(batch) == {
        "train/1.png": ("cat", "train"), "test/2.png": ("cat", "heldout"), "test/3.png": (None, "heldout"),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["metadata.csv", "Metadata.CSV", "labels.tsv", "metadata.jsonl", "labels.parquet"])
def test_usual_tables_of_other_tools_are_read(batch, name):
    put(batch, "images/1.png", "images/2.png")
    rows = [("images/1.png", "cat", 3), ("images/2.png", "dog", None)]
    if name.endswith("parquet"):
        columns = dict(zip(("file_name", "label", "age"), map(list, zip(*rows, strict=True)), strict=True))
        pq.write_table(pa.table(columns), batch / name)
    elif name.endswith("jsonl"):
        lines = [json.dumps({"file_name": path, "label": label, "age": age}) for path, label, age in rows]
        put(batch, name, content="\n".join(lines).encode())
    else:
        mark = "\t" if name.endswith("tsv") else ","
        lines = [mark.join(("file_name", "label", "age")), *(mark.join((p, c, str(a or ""))) for p, c, a in rows)]
        put(batch, name, content="\n".join(lines).encode())
    labels = {entry.path: dict(entry.said) for entry in find_entries(batch)}
    assert labels == {"images/1.png": {"label": "cat", "age": "3"}, "images/2.png": {"label": "dog"}}


def test_tables_in_the_folders_of_splits_begin_there(batch):
    """Hugging Face datasets writes them so."""
    for split, label in (("train", "cat"), ("validation", "cat"), ("test", "dog")):
        put(batch, f"{split}/1.png")
        put(batch, f"{split}/metadata.jsonl", content=f'{{"file_name": "1.png", "label": "{label}"}}\n'.encode())
    assert said(batch) == {
        "train/1.png": ("cat", "train"), "validation/1.png": ("cat", "val"), "test/1.png": ("dog", "heldout"),
    }  # fmt: skip


def test_folder_around_a_table_and_its_files_is_no_class(batch):
    put(batch, "download/images/1.png")
    put(batch, "download/metadata.csv", content=b"file_name,label\nimages/1.png,cat\n")
    assert said(batch) == {"download/images/1.png": ("cat", None)}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1]", "unreadable_row"),
        ("{", "unreadable_row"),
        ("[" * 5000, "unreadable_row"),
        ('{"label": "x"}', "missing_file"),
    ],
)
def test_line_that_is_no_row_does_not_affect_the_others(batch, line, reason):
    put(batch, "1.png")
    put(batch, "metadata.jsonl", content=f'{{"file_name": "1.png", "label": 1.0, "box": [[1]]}}\n{line}\n'.encode())
    found = said(batch)
    assert found["1.png"] == ("1", None)
    assert found["metadata.jsonl:2"] == reason
    assert found["metadata.jsonl:box"] == "not_a_sample"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("annotations.csv", b"image,class\n1.png,cat\n"),
        ("metadata.csv", b"image,class\n1.png,cat\n"),
        ("birds.tsv", b""),
        ("labels.xlsx", b"PK"),
        ("_annotations.coco.json", b'{"images": [{"file_name": "cat/1.png"}]}'),
        ("labels.json", b'{"1.png": "cat", "cat/2.png": "dog"}'),
        ("list.txt", b"cat/1.png 0\ncat/2.png 1\n"),
        ("labels", b"1,cat\n2,dog\n"),
        ("labels.csv.gz", b"\x1f\x8b"),
    ],
)
def test_other_table_at_the_top_is_named_with_what_is_expected(batch, name, content):
    put(batch, "cat/1.png", "cat/2.png")
    put(batch, name, content=content)
    with pytest.raises(
        ValueError, match=r"is not read as a table of labels; expected labels\.csv or metadata\.csv"
    ) as stop:
        said(batch)
    assert str(stop.value).startswith(f"{batch}: {name}")
    assert "\n" not in str(stop.value)


def test_columns_of_a_table_that_is_not_read_are_shown(batch):
    put(batch, "1.png")
    put(batch, "train.csv", content=b"image_id,class\n1,cat\n")
    with pytest.raises(ValueError, match=r"train\.csv \(columns image_id, class\) is not read"):
        said(batch)


def test_names_of_classes_in_json_stop_nothing(batch):
    put(batch, "cat/1.png", "cat/2.png")
    put(batch, "names.json", content=b'{"1": "cat", "2": "dog"}')
    assert said(batch)["cat/1.png"] == ("cat", None)


@pytest.mark.parametrize("name", ["notes.txt", "README.md", "cat/list.csv", "info.json", "LICENSE", ".hidden.csv"])
def test_text_that_lists_no_files_stops_nothing(batch, name):
    put(batch, "cat/1.png", "cat/2.png")
    put(batch, name, content=b'{"note": "cat/1.png is blurred", "images": 2}\ncat\ndog\n')
    assert said(batch)["cat/1.png"] == ("cat", None)


def test_two_tables_of_equal_right_are_refused(batch):
    put(batch, "1.png")
    for name in ("metadata.csv", "metadata.tsv"):
        put(batch, name, content=b"path\tlabel\n1.png\tcat\n")
    with pytest.raises(ValueError, match=r"metadata\.csv and metadata\.tsv may both be the table of labels"):
        said(batch)


def test_labels_csv_comes_before_every_other_table(batch):
    put(batch, "1.png")
    put(batch, "labels.csv", content=b"path,label\n1.png,cat\n")
    for name in ("metadata.csv", "labels.tsv", "old.csv"):
        put(batch, name, content=b"path\tlabel\n1.png\tdog\n")
    assert said(batch)["1.png"] == ("cat", None)


def test_first_line_of_json_need_not_have_a_label(batch):
    put(batch, "1.png", "2.png")
    (batch / "metadata.jsonl").write_text('{"file_name": "1.png"}\n{"file_name": "2.png", "label": "cat"}\n')
    assert said(batch) == {"1.png": (None, None), "2.png": ("cat", None)}
