"""What a person may name to be classified."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.data.samples.defects import DefectError
from tasks.prediction.inputs import Input, find_inputs, read_input


@pytest.fixture
def pictures(tmp_path):
    """A folder of files that hold their own names."""
    folder = tmp_path / "pictures"
    for name in ("b.png", "a/2.png", "a/1.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def found(*named, **options):
    return list(find_inputs(named, **options))


def contents(*named, **options):
    return [read_input(each, max_file_bytes=100) for each in found(*named, **options) if each.place]


def reasons(*named, **options):
    return [each.reason for each in found(*named, **options)]


def table(path, text):
    path.write_text(text, "utf-8")
    return path


def test_folder_is_searched_to_the_bottom_in_order(pictures):
    assert contents(pictures) == [b"b.png", b"a/1.png", b"a/2.png"]
    assert found(pictures)[0].path == str(pictures / "b.png")


def test_inputs_come_in_the_order_in_which_they_were_named(pictures):
    assert contents(pictures / "b.png", pictures / "a") == [b"b.png", b"a/1.png", b"a/2.png"]


def test_what_is_not_there_is_told(pictures):
    assert reasons(pictures / "none.png", pictures / "none.csv") == ["missing_file", "missing_file"]


def test_table_of_the_layout_in_a_folder_is_no_picture(pictures):
    table(pictures / "labels.csv", "path,label\nb.png,x\n")
    assert len(found(pictures)) == 3


def test_file_that_is_left_out_is_not_looked_at(pictures):
    assert contents(pictures, left_out=lambda path: path.name == "b.png") == [b"a/1.png", b"a/2.png"]


def test_hidden_file_and_link_that_leaves_the_folder_are_told(pictures, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (pictures / "link.png").symlink_to(tmp_path / "secret")
    (pictures / ".hidden.png").write_bytes(b"hidden")
    assert sorted(filter(None, reasons(pictures))) == ["hidden_file", "outside_batch"]
    assert f"a link that leaves the folder {pictures}" in [each.detail for each in found(pictures)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_paths_of_a_csv_begin_where_it_lies(pictures, delimiter):
    rows = [("note", "path"), ("x", "b.png"), ("y", "a/1.png")]
    path = table(pictures / "list.csv", "\n".join(delimiter.join(row) for row in rows))
    assert contents(path) == [b"b.png", b"a/1.png"]


def test_paths_of_a_csv_begin_at_the_root_that_is_named(pictures, tmp_path):
    path = table(tmp_path / "list.csv", "path\n1.png\n")
    assert contents(path, root=pictures / "a") == [b"a/1.png"]


@pytest.mark.parametrize("path", ["/etc/passwd", "../list.csv", "a/../../x.png"])
def test_path_of_a_table_that_leaves_its_folder_is_refused(pictures, path):
    (pictures.parent / "x.png").write_bytes(b"x")
    [told] = found(table(pictures / "list.csv", f"path\n{path}\n"))
    assert told.reason == "outside_batch"
    assert told.detail == f"expected a path inside the folder {pictures}, without '..'"
    pq.write_table(pa.table({"path": [path]}), pictures / "list.parquet")
    assert reasons(pictures / "list.parquet") == ["outside_batch"]


def test_rows_that_cannot_be_read_cost_no_other(pictures):
    path = table(pictures / "list.csv", 'path,x\nb.png,1\nb.png\n\n"a"b,2\n,3\nnone.png,4\na/1.png,5\n')
    assert reasons(path) == ["", "unreadable_row", "unreadable_row", "missing_file", "missing_file", ""]


def test_csv_without_a_column_of_paths_is_told(pictures):
    [told] = found(table(pictures / "list.csv", "file,label\nb.png,x\n"))
    assert told.reason == "unreadable_table"
    assert "file, label" in told.detail
    assert reasons(table(pictures / "empty.csv", "")) == ["unreadable_table"]


@pytest.mark.parametrize("struct", [True, False])
def test_pictures_of_a_parquet_file_are_its_rows(tmp_path, struct):
    cells = [b"one", b"two", None, b"four"]
    images = [{"bytes": cell, "path": "x.png"} for cell in cells] if struct else cells
    pq.write_table(pa.table({"image": images, "label": list("abcd")}), tmp_path / "rows.parquet", row_group_size=2)
    inputs = found(tmp_path / "rows.parquet")
    assert [each.path for each in inputs] == [f"{tmp_path}/rows.parquet/{row}" for row in range(4)]
    assert [read_input(inputs[row], max_file_bytes=9) for row in (0, 1, 3)] == [b"one", b"two", b"four"]
    with pytest.raises(DefectError) as told:
        read_input(inputs[2], max_file_bytes=9)
    assert told.value.reason == "unreadable_row"


def test_paths_of_a_parquet_file_are_followed(pictures):
    pq.write_table(pa.table({"path": ["a/1.png", None, "b.png"]}), pictures / "list.parquet")
    assert contents(pictures / "list.parquet") == [b"a/1.png", b"b.png"]
    assert reasons(pictures / "list.parquet") == ["", "missing_file", ""]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_paths_of_a_parquet_file_are_text_of_any_type(pictures, kind):
    pq.write_table(pa.table({"path": pa.array(["a/1.png", "b.png"]).cast(kind)}), pictures / "list.parquet")
    assert contents(pictures / "list.parquet") == [b"a/1.png", b"b.png"]


def test_path_of_a_parquet_file_that_is_not_utf8_costs_no_other(pictures):
    bytes_ = pa.array([b"a/1.png", b"\xff.png", b"b.png"], pa.binary())
    pq.write_table(
        pa.table({"path": pa.Array.from_buffers(pa.string(), 3, bytes_.buffers())}), pictures / "list.parquet"
    )
    assert reasons(pictures / "list.parquet") == ["", "name_not_text", ""]


@pytest.mark.parametrize(("name", "expected"), [("embedding", [b"b.png"]), ("image", [b"picture"])])
def test_paths_of_a_parquet_file_are_followed_where_its_bytes_are_not_called_pictures(pictures, name, expected):
    pq.write_table(pa.table({"path": ["b.png"], name: [b"picture"]}), pictures / "list.parquet")
    assert contents(pictures / "list.parquet") == expected


def test_parquet_file_that_is_torn_or_holds_something_else_is_told(tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "numbers.parquet")
    (tmp_path / "torn.parquet").write_bytes((tmp_path / "numbers.parquet").read_bytes()[:50])
    assert reasons(tmp_path / "numbers.parquet", tmp_path / "torn.parquet") == ["unreadable_table"] * 2


def test_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe.csv")
    assert reasons(tmp_path, tmp_path / "pipe.png", tmp_path / "pipe.csv") == ["not_an_image"] * 4


def test_name_that_no_disk_can_have_costs_no_other(pictures):
    assert reasons(pictures / ("a" * 300 + ".png"), pictures / "b.png") == ["missing_file", ""]


@pytest.mark.parametrize("place", ["gone.png", "big.png"])
def test_file_that_went_away_or_is_too_large_is_told(tmp_path, place):
    with (tmp_path / "big.png").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DefectError) as told:
        read_input(Input(path=place, place=tmp_path / place), max_file_bytes=1000)
    assert told.value.reason == {"gone.png": "missing_file", "big.png": "too_many_bytes"}[place]
