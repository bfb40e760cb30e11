"""The folders, files and tables that a person may name for classification."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.data.raw.options import TextTables
from tasks.data.samples.defects import DefectError
from tasks.prediction.inputs import Input, find_inputs, read_input
from tests.kit.deep import deep_folder


@pytest.fixture
def pictures(tmp_path):
    """Make a folder of files whose content is their own name."""
    folder = tmp_path / "pictures"
    for name in ("b.png", "a/2.png", "a/1.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def inputs(*named, **options):
    return list(find_inputs(named, **options))


def contents(*named, **options):
    return [read_input(item, max_file_bytes=100) for item in inputs(*named, **options) if item.place]


def reasons(*named, **options):
    return [item.reason for item in inputs(*named, **options)]


def table(path, text):
    path.write_text(text, "utf-8")
    return path


def test_folder_is_searched_to_the_bottom_in_order(pictures):
    assert contents(pictures) == [b"b.png", b"a/1.png", b"a/2.png"]
    assert inputs(pictures)[0].path == str(pictures / "b.png")


def test_inputs_come_in_the_order_in_which_they_were_named(pictures):
    assert contents(pictures / "b.png", pictures / "a") == [b"b.png", b"a/1.png", b"a/2.png"]


def test_missing_file_or_table_has_a_reason(pictures):
    assert reasons(pictures / "none.png", pictures / "none.csv") == ["missing_file", "missing_file"]


@pytest.mark.parametrize("name", ["labels.csv", "metadata.csv", "metadata.jsonl"])
def test_table_of_labels_in_a_folder_is_skipped(pictures, name):
    table(pictures / name, "path,label\nb.png,x\n")
    assert len(inputs(pictures)) == 3


def far_and_near(folder, **options):
    """What is found at the address of a folder, without its name, and what is found in the folder."""
    return (
        [(item.path.removeprefix("file://"), item.reason) for item in inputs(place, **options)]
        for place in (f"file://{folder}", folder)
    )


@pytest.mark.parametrize("columns", [["image"], ["path"], ["image", "path"]])
def test_table_called_labels_is_taken_at_an_address_as_in_a_folder(pictures, columns):
    cells = {"image": [b"content"], "path": ["b.png"]}
    pq.write_table(pa.table({name: cells[name] for name in columns}), pictures / "labels.parquet")
    far, near = far_and_near(pictures)
    assert far == near
    assert len(near) == (4 if columns == ["image"] else 3)


def test_tables_of_texts_are_taken_at_an_address_as_in_a_folder(tmp_path):
    table(tmp_path / "labels.csv", "path,label\nnote.txt,x\n")
    table(tmp_path / "note.txt", "hello")
    table(tmp_path / "news.json", "[]")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    texts = TextTables(text_columns=None, encoding=None)
    far, near = far_and_near(tmp_path, texts=texts)
    assert far == near
    assert [reason for _, reason in near] == ["unreadable_table", "", "unreadable_table"]
    once, again = (inputs(f"file://{tmp_path}", texts=texts) for _ in range(2))
    assert once == again  # no detail names the copy that is read


def test_table_of_another_tool_is_read(pictures):
    lines = ['{"file_name": "b.png", "tags": ["x"]}', "[", '{"file_name": "a/1.png"}', "{}"]
    path = table(pictures / "metadata.jsonl", "\n".join(lines))
    assert contents(path) == [b"b.png", b"a/1.png"]
    assert reasons(path) == ["", "unreadable_row", "", "missing_file"]
    assert contents(table(pictures / "list.tsv", "note\tfile_name\nx\tb.png\n")) == [b"b.png"]


def test_folder_that_is_far_too_deep_has_a_reason_and_costs_no_other_image(pictures):
    with deep_folder(pictures, depth=150):
        assert sorted(reasons(pictures)) == ["", "", "", "too_deep"]


def test_file_that_is_left_out_is_skipped(pictures):
    assert contents(pictures, left_out=lambda path: path.name == "b.png") == [b"a/1.png", b"a/2.png"]


def test_hidden_file_and_link_that_leaves_the_folder_have_a_reason(pictures, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (pictures / "link.png").symlink_to(tmp_path / "secret")
    (pictures / ".hidden.png").write_bytes(b"hidden")
    assert sorted(filter(None, reasons(pictures))) == ["hidden_file", "outside_batch"]
    assert f"a link that leaves the folder {pictures}" in [item.detail for item in inputs(pictures)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_paths_of_a_csv_begin_at_its_folder(pictures, delimiter):
    rows = [("note", "path"), ("x", "b.png"), ("y", "a/1.png")]
    path = table(pictures / "list.csv", "\n".join(delimiter.join(row) for row in rows))
    assert contents(path) == [b"b.png", b"a/1.png"]


def test_paths_of_a_csv_begin_at_the_root_that_is_named(pictures, tmp_path):
    path = table(tmp_path / "list.csv", "path\n1.png\n")
    assert contents(path, root=pictures / "a") == [b"a/1.png"]


@pytest.mark.parametrize("path", ["/etc/passwd", "../list.csv", "a/../../x.png"])
def test_path_of_a_table_that_leaves_its_folder_is_refused(pictures, path):
    (pictures.parent / "x.png").write_bytes(b"x")
    [item] = inputs(table(pictures / "list.csv", f"path\n{path}\n"))
    assert item.reason == "outside_batch"
    assert item.detail == f"expected a path inside the folder {pictures}, without '..'"
    pq.write_table(pa.table({"path": [path]}), pictures / "list.parquet")
    assert reasons(pictures / "list.parquet") == ["outside_batch"]


def test_unreadable_rows_do_not_stop_the_others(pictures):
    path = table(pictures / "list.csv", 'path,x\nb.png,1\nb.png\n\n"a"b,2\n,3\nnone.png,4\na/1.png,5\n')
    assert reasons(path) == ["", "unreadable_row", "unreadable_row", "missing_file", "missing_file", ""]


def test_csv_without_a_column_of_paths_has_a_reason(pictures):
    [item] = inputs(table(pictures / "list.csv", "picture,label\nb.png,x\n"))
    assert item.reason == "unreadable_table"
    assert "'picture', 'label'" in item.detail
    assert reasons(table(pictures / "empty.csv", "")) == ["unreadable_table"]


@pytest.mark.parametrize("struct", [True, False])
def test_images_of_a_parquet_file_are_its_rows(tmp_path, struct):
    cells = [b"one", b"two", None, b"four"]
    images = [{"bytes": cell, "path": "x.png"} for cell in cells] if struct else cells
    pq.write_table(pa.table({"image": images, "label": list("abcd")}), tmp_path / "rows.parquet", row_group_size=2)
    items = inputs(tmp_path / "rows.parquet")
    assert [item.path for item in items] == [f"{tmp_path}/rows.parquet/{row}" for row in range(4)]
    assert [read_input(items[row], max_file_bytes=9) for row in (0, 1, 3)] == [b"one", b"two", b"four"]
    with pytest.raises(DefectError) as defect:
        read_input(items[2], max_file_bytes=9)
    assert defect.value.reason == "unreadable_row"


def test_paths_of_a_parquet_file_are_followed(pictures):
    pq.write_table(pa.table({"path": ["a/1.png", None, "b.png"]}), pictures / "list.parquet")
    assert contents(pictures / "list.parquet") == [b"a/1.png", b"b.png"]
    assert reasons(pictures / "list.parquet") == ["", "missing_file", ""]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_paths_of_a_parquet_file_are_text_of_any_type(pictures, kind):
    pq.write_table(pa.table({"path": pa.array(["a/1.png", "b.png"]).cast(kind)}), pictures / "list.parquet")
    assert contents(pictures / "list.parquet") == [b"a/1.png", b"b.png"]


def test_path_of_a_parquet_file_that_is_not_utf8_does_not_stop_the_others(pictures):
    bytes_ = pa.array([b"a/1.png", b"\xff.png", b"b.png"], pa.binary())
    pq.write_table(
        pa.table({"path": pa.Array.from_buffers(pa.string(), 3, bytes_.buffers())}), pictures / "list.parquet"
    )
    assert reasons(pictures / "list.parquet") == ["", "name_not_text", ""]


@pytest.mark.parametrize(("name", "expected"), [("embedding", [b"b.png"]), ("image", [b"picture"])])
def test_paths_of_a_parquet_file_are_followed_unless_its_bytes_have_a_name_of_images(pictures, name, expected):
    pq.write_table(pa.table({"path": ["b.png"], name: [b"picture"]}), pictures / "list.parquet")
    assert contents(pictures / "list.parquet") == expected


def test_parquet_file_that_is_torn_or_without_images_has_a_reason(tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "numbers.parquet")
    (tmp_path / "torn.parquet").write_bytes((tmp_path / "numbers.parquet").read_bytes()[:50])
    assert reasons(tmp_path / "numbers.parquet", tmp_path / "torn.parquet") == ["unreadable_table"] * 2


def test_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe.csv")
    assert reasons(tmp_path, tmp_path / "pipe.png", tmp_path / "pipe.csv") == ["not_an_image"] * 4


def test_name_that_no_disk_can_have_does_not_stop_the_others(pictures):
    assert reasons(pictures / ("a" * 300 + ".png"), pictures / "b.png") == ["missing_file", ""]


@pytest.mark.parametrize("place", ["gone.png", "big.png"])
def test_file_that_was_removed_or_is_too_large_has_a_reason(tmp_path, place):
    with (tmp_path / "big.png").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DefectError) as defect:
        read_input(Input(path=place, place=tmp_path / place), max_file_bytes=1000)
    assert defect.value.reason == {"gone.png": "missing_file", "big.png": "too_many_bytes"}[place]
