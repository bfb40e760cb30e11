"""Parquet files with a column of images."""

import contextlib
import json
import random
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.data.raw.layouts import find_entries
from tasks.data.samples import parquet_cells
from tasks.data.samples.contents import read_content
from tasks.data.samples.parquet_cells import UnreadableTableError

IMAGES = [b"one", b"two", b"three"]


@pytest.fixture
def batch(tmp_path):
    folder = tmp_path / "batch"
    folder.mkdir()
    return folder


def write(path, *, images=IMAGES, metadata=None, row_group_size=2, **columns):
    table = pa.table({"image": images} | (columns or {"label": ["cat", "dog", "cat"]}))
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=row_group_size)


def labels_or_reasons(batch):
    return {entry.path: entry.reason or dict(entry.said) for entry in find_entries(batch)}


def contents(batch):
    return [read_content(batch / entry.path) for entry in find_entries(batch) if not entry.reason]


def test_row_is_a_sample_with_its_labels(batch):
    write(
        batch / "x.parquet", label=["cat", "dog", None], group=["g", None, " "], split=["train", "validation", "test"]
    )
    assert labels_or_reasons(batch) == {
        "x.parquet/0": {"label": "cat", "group": "g", "split": "train"},
        "x.parquet/1": {"label": "dog", "split": "val"},
        "x.parquet/2": {"split": "heldout"},
    }
    assert contents(batch) == IMAGES


def test_images_in_the_structs_of_hugging_face_are_read(batch):
    structs = [{"bytes": image, "path": f"{image}.png"} for image in IMAGES]
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    (batch / "data").mkdir()
    write(batch / "data/train-00000-of-00001.parquet", images=structs, metadata=metadata, label=[1, 0, -1])
    assert list(labels_or_reasons(batch).values()) == [{"label": "dog"}, {"label": "cat"}, {}]
    assert contents(batch) == IMAGES


def test_batch_may_be_a_single_file(tmp_path):
    write(tmp_path / "x.parquet")
    assert list(labels_or_reasons(tmp_path / "x.parquet")) == ["0", "1", "2"]
    assert contents(tmp_path / "x.parquet") == IMAGES


def test_numbers_and_truth_values_are_labels(batch):
    write(batch / "x.parquet", number=[1, 2, None], truth=[True, None, False], real=[1.0, 2.5, float("nan")])
    assert list(labels_or_reasons(batch).values()) == [
        {"number": "1", "truth": "True", "real": "1"}, {"number": "2", "real": "2.5"}, {"truth": "False"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lists", "texts"),
    [
        ([["red", " round "], [], None], ['["red","round"]', "[]", None]),
        ([[3, 1], [2], [None]], ["[3,1]", "[2]", "[null]"]),
        ([[0.5, 1.0], [2.0], []], ["[0.5,1]", "[2]", "[]"]),
    ],
)
def test_list_of_labels_is_read_as_json(batch, lists, texts):
    write(batch / "x.parquet", tags=lists)
    assert [said.get("tags") for said in labels_or_reasons(batch).values()] == texts


def test_list_that_is_not_utf8_is_a_defect_of_its_row(batch):
    tags = pa.array([[b"red"], [b"\xff"], [b"blue"]], pa.list_(pa.binary())).view(pa.list_(pa.string()))
    pq.write_table(pa.table({"image": IMAGES, "tags": tags}), batch / "x.parquet")
    assert list(labels_or_reasons(batch).values()) == [
        {"tags": '["red"]'}, "unreadable_row", {"tags": '["blue"]'},
    ]  # fmt: skip


def test_numbered_classes_in_a_list_have_their_names(batch):
    features = {"tags": {"feature": {"names": ["red", "round"], "_type": "ClassLabel"}, "_type": "Sequence"}}
    table = pa.table({"image": IMAGES, "tags": [[1, 0], [], [0]]})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), batch / "x.parquet")
    assert [said["tags"] for said in labels_or_reasons(batch).values()] == ['["round","red"]', "[]", '["red"]']


def test_column_of_vectors_is_no_list_of_labels(batch):
    write(batch / "x.parquet", label=["cat"] * 3, vector=[[0.5] * 101] * 3)
    assert labels_or_reasons(batch)["x.parquet:vector"] == "not_a_sample"


def test_column_of_objects_is_named_once_and_no_target(batch):
    for name in ("x", "y"):
        write(batch / f"{name}.parquet", label=["cat"] * 3, boxes=[[[1, 2]], [], None])
    named, *rows = sorted(find_entries(batch), key=lambda entry: not entry.reason)
    assert [dict(row.said) for row in rows] == [{"label": "cat"}] * 6
    assert (named.path, named.reason) == ("x.parquet:boxes", "not_a_sample")
    assert named.detail == "column boxes holds several values a row; a target has one: give each its own column"


def test_labels_that_are_lists_of_lists_are_a_defect_of_the_table(batch):
    write(batch / "x.parquet", labels=[[[0, 1]], [[1]], []])
    assert labels_or_reasons(batch) == {
        "x.parquet": "unreadable_table", "x.parquet/0": {}, "x.parquet/1": {}, "x.parquet/2": {},
    }  # fmt: skip


def test_shards_called_after_splits_are_the_split(batch):
    for name in ("train-00000-of-00001", "validation-00000-of-00001", "test"):
        write(batch / f"{name}.parquet", images=[name.encode()], label=["cat"])
    splits = {path.split("-")[0].split(".")[0]: said["split"] for path, said in labels_or_reasons(batch).items()}
    assert splits == {"train": "train", "validation": "val", "test": "heldout"}


def test_names_of_rows_sort_in_the_order_of_the_rows(batch):
    write(batch / "x.parquet", images=IMAGES * 4, label=["cat"] * 12)
    assert list(labels_or_reasons(batch)) == sorted(labels_or_reasons(batch))
    assert contents(batch) == IMAGES * 4


def test_of_two_columns_of_bytes_the_one_named_image_is_read(batch):
    write(batch / "x.parquet", label=["cat"] * 3, mask=[b"m"] * 3)
    assert contents(batch) == IMAGES


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": ["cat"]}, "columns label (string); expected a column of images"),
        ({"one": [b"x"], "other": [b"y"]}, "columns one (binary), other (binary); expected a column of images"),
    ],
)
def test_table_without_exactly_one_column_of_images_is_a_defect(batch, columns, message):
    pq.write_table(pa.table(columns), batch / "x.parquet")
    [entry] = find_entries(batch)
    assert (entry.path, entry.reason) == ("x.parquet", "unreadable_table")
    assert message in entry.detail


def test_table_without_rows_is_a_defect(batch):
    write(batch / "x.parquet", images=pa.array([], pa.binary()), label=pa.array([], pa.string()))
    assert labels_or_reasons(batch) == {"x.parquet": "unreadable_table"}


def test_row_without_bytes_cannot_be_read(batch):
    write(batch / "x.parquet", images=[None, b"two", b"three"])
    with pytest.raises(UnreadableTableError, match="no image bytes"):
        read_content(batch / "x.parquet/0")


def test_row_with_an_unknown_split_is_a_defect(batch):
    write(batch / "x.parquet", label=["cat"] * 3, split=["train", "somewhere", None])
    assert labels_or_reasons(batch)["x.parquet/1"] == "unreadable_row"


def test_cell_that_is_not_utf8_affects_its_row_alone(batch):
    labels = pa.Array.from_buffers(pa.string(), 3, pa.array([b"cat", b"\xff", b"dog"], pa.binary()).buffers())
    write(batch / "x.parquet", label=labels, row_group_size=3)
    assert labels_or_reasons(batch) == {
        "x.parquet/0": {"label": "cat"},
        "x.parquet/1": "unreadable_row",
        "x.parquet/2": {"label": "dog"},
    }


def test_every_row_of_an_unreadable_row_group_is_a_defect(batch):
    labels = [f"{number:0100d}" for number in range(400)]
    write(batch / "x.parquet", images=[b"p" * 100] * 400, label=labels, row_group_size=200)
    whole = bytearray((batch / "x.parquet").read_bytes())
    place = pq.ParquetFile(batch / "x.parquet").metadata.row_group(1).column(1)
    start = place.dictionary_page_offset
    whole[start : start + 40] = b"\xff" * 40
    (batch / "x.parquet").write_bytes(whole)
    reasons = [entry.reason for entry in find_entries(batch)]
    assert reasons == [""] * 200 + ["unreadable_row"] * 200


def test_column_that_appears_twice_is_refused(batch):
    table = pa.table([IMAGES, ["a"] * 3, ["b"] * 3], names=["image", "label", "label"])
    pq.write_table(table, batch / "x.parquet")
    [entry] = find_entries(batch)
    assert entry.detail == "column label appears twice"


def test_table_that_claims_more_rows_than_it_has_bytes_is_refused(batch):
    rows = 100_000
    write(batch / "x.parquet", images=pa.nulls(rows, pa.binary()), label=["cat"] * rows, row_group_size=rows)
    assert labels_or_reasons(batch) == {"x.parquet": "unreadable_table"}


def test_spaces_around_the_name_of_a_column_are_ignored(batch):
    write(batch / "x.parquet", **{" label ": ["cat"] * 3})
    assert labels_or_reasons(batch)["x.parquet/0"] == {"label": "cat"}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    names=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=3),
    cells=st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=8)), max_size=4),
)
def test_any_table_gives_an_entry_for_each_row_or_one_defect(batch, names, cells):
    columns = [pa.array([b"p" * 50] * len(cells), pa.binary()), *(pa.array(cells, pa.string()) for _ in names)]
    pq.write_table(pa.table(columns, names=["image", *names]), batch / "x.parquet")
    entries = find_entries(batch)
    assert len(entries) == len(cells) or [entry.reason for entry in entries] == ["unreadable_table"]


def test_file_that_only_has_the_ending_belongs_to_its_class_folder(batch):
    (batch / "cat").mkdir()
    (batch / "cat" / "x.parquet").write_bytes(b"\x89PNG")
    assert labels_or_reasons(batch) == {"cat/x.parquet": {"label": "cat"}}


def test_link_to_a_table_outside_is_not_followed(batch, tmp_path):
    write(tmp_path / "x.parquet")
    (batch / "x.parquet").symlink_to(tmp_path / "x.parquet")
    assert labels_or_reasons(batch) == {"x.parquet": "outside_batch"}


def test_missing_row_is_a_missing_file(batch):
    write(batch / "x.parquet")
    with pytest.raises(UnreadableTableError, match="has no row 3"):
        read_content(batch / "x.parquet/3")
    with pytest.raises(FileNotFoundError):
        read_content(batch / "x.parquet/first")


@pytest.mark.parametrize("options", [{"dictionary_pagesize_limit": 10**9}, {"use_dictionary": False}])
def test_row_group_that_would_fill_the_memory_is_not_read(batch, monkeypatch, options):
    monkeypatch.setattr("tasks.data.samples.parquet_cells.MOST_GROUP_BYTES", 10_000_000)
    rows = pa.table({"image": [bytes(1_000_000)] * 60})
    pq.write_table(rows, batch / "x.parquet", compression="zstd", **options)
    assert (batch / "x.parquet").stat().st_size < 100_000
    with pytest.raises(UnreadableTableError, match="more than 10000000 bytes of images: write smaller row groups"):
        read_content(batch / "x.parquet/7")


def test_threads_that_need_the_same_rows_read_them_once(batch, monkeypatch):
    write(batch / "x.parquet", row_group_size=3)
    opened = []
    whole = parquet_cells.open_table
    monkeypatch.setattr(parquet_cells, "open_table", lambda file: opened.append(file) or whole(file))
    start = Barrier(3)
    with ThreadPoolExecutor(3) as threads:
        read = list(threads.map(lambda row: (start.wait(), read_content(batch / f"x.parquet/{row}"))[1], range(3)))
    assert read == IMAGES
    assert opened.count(batch / "x.parquet") == 2  # once for the layout


def test_damaged_table_gives_rows_or_defects_and_never_an_error(batch):
    """Each entry of a damaged table can be read or has a defect."""
    rng = random.Random(0)
    write(batch / "x.parquet")
    whole = (batch / "x.parquet").read_bytes()
    for _ in range(300):
        damaged = bytearray(whole[: rng.randrange(4, len(whole))] if rng.random() < 0.3 else whole)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(4, len(damaged))] = rng.randrange(256)
        (batch / "x.parquet").write_bytes(damaged)
        entries = find_entries(batch)
        assert entries
        for entry in entries:
            if not entry.reason:
                with contextlib.suppress(UnreadableTableError):
                    assert isinstance(read_content(batch / entry.path), bytes)


def test_table_with_too_many_columns_is_a_defect(batch):
    write(batch / "x.parquet", **{f"column_{number}": [1, 2, 3] for number in range(1000)})
    [entry] = find_entries(batch)
    assert (entry.reason, entry.detail) == ("unreadable_table", "1001 columns, expected at most 1000")
