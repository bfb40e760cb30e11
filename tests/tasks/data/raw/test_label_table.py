"""Batches with a labels.csv beside their files."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.data.raw.layouts import find_entries


@pytest.fixture
def batch(tmp_path):
    folder = tmp_path / "raw/batch"
    (folder / "deep").mkdir(parents=True)
    for name in ("1.png", "2.png", "deep/3.png"):
        (folder / name).touch()
    return folder


def table(batch, text, *, encoding="utf-8"):
    (batch / "labels.csv").write_bytes(text.encode(encoding) if isinstance(text, str) else text)


def labels_or_reasons(batch):
    """Return by path a row's cells, or the reason of its defect; samples that no row names are left out."""
    return {
        entry.path: entry.reason or dict(entry.said) for entry in find_entries(batch) if entry.is_named or entry.reason
    }


def unnamed(batch):
    """Return the samples that no row names: they have no label."""
    return [entry.path for entry in find_entries(batch) if not (entry.is_named or entry.reason or entry.said)]


def test_row_names_a_file_and_its_labels(batch):
    table(batch, "path,label,colour,group,domain,split\ndeep/3.png,cat,red,g1,indoors,test\n1.png,dog,,,,\n")
    assert labels_or_reasons(batch) == {
        "deep/3.png": {"label": "cat", "colour": "red", "group": "g1", "domain": "indoors", "split": "heldout"},
        "1.png": {"label": "dog"},
    }
    assert unnamed(batch) == ["2.png"]


@pytest.mark.parametrize(
    ("name", "split"),
    [("train", "train"), ("Validation", "val"), ("dev", "val"), ("TEST", "heldout"), ("heldout", "heldout")],
)
def test_common_names_of_splits_are_understood(batch, name, split):
    table(batch, f"path,label,split\n1.png,cat,{name}\n")
    assert labels_or_reasons(batch)["1.png"]["split"] == split


def test_row_with_an_unknown_split_is_a_defect(batch):
    table(batch, "path,label,split\n1.png,cat,tset\n")
    [entry] = [entry for entry in find_entries(batch) if entry.path == "1.png"]
    assert entry.reason == "unreadable_row"
    assert entry.detail == "labels.csv, line 2: split is 'tset', expected train, val, heldout or nothing"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_table_with_any_delimiter_is_read(batch, delimiter):
    table(batch, f'"path"{delimiter}label\r\n1.png{delimiter}cat\r\n', encoding="utf-8-sig")
    assert labels_or_reasons(batch) == {"1.png": {"label": "cat"}}


def test_spaces_around_a_label_and_a_path_are_ignored(batch):
    table(batch, "path,label\n1.png, cat \n 2.png ,cat\n")
    assert labels_or_reasons(batch) == {"1.png": {"label": "cat"}, "2.png": {"label": "cat"}}


def test_accents_in_another_form_name_the_same_file_and_column(batch):
    (batch / "cafe\u0301.png").touch()
    table(batch, "path,re\u0301gion\ncaf\u00e9.png,nord\n")
    assert labels_or_reasons(batch) == {"cafe\u0301.png": {"r\u00e9gion": "nord"}}
    assert "cafe\u0301.png" not in unnamed(batch)


def test_table_with_too_many_columns_is_a_defect(batch):
    table(batch, ",".join(["path", *map(str, range(9_000))]) + "\n")
    assert labels_or_reasons(batch) == {"labels.csv": "unreadable_table"}


def test_columns_named_like_facts_are_ignored(batch):
    table(batch, "path,label,width,sample_id,\n1.png,cat,3,abc,\n")
    assert labels_or_reasons(batch) == {"1.png": {"label": "cat"}}


def test_row_with_a_wrong_number_of_cells_does_not_affect_the_others(batch):
    table(batch, "path,label\n1.png\n2.png,cat,more\ndeep/3.png,dog\n\n")
    assert labels_or_reasons(batch) == {
        "labels.csv:2": "unreadable_row",
        "labels.csv:3": "unreadable_row",
        "deep/3.png": {"label": "dog"},
    }
    assert unnamed(batch) == ["1.png", "2.png"]


def test_open_quote_costs_only_the_rows_behind_it(batch):
    table(batch, 'path,label\n1.png,cat\n2.png,"dog\ndeep/3.png,dog\n')
    assert labels_or_reasons(batch) == {"1.png": {"label": "cat"}, "labels.csv:4": "unreadable_row"}
    assert unnamed(batch) == ["2.png", "deep/3.png"]


def test_table_that_is_not_utf8_is_one_defect_and_its_files_have_no_label(batch):
    """Else a few classes would lose all their rows, and the others none."""
    table(batch, b"path,label\n1.png,caf\xe9\n2.png,dog\n")
    [entry] = [entry for entry in find_entries(batch) if entry.reason]
    assert (entry.path, entry.reason) == ("labels.csv", "unreadable_table")
    assert entry.detail == "1 of its 3 lines are not UTF-8 (the first is line 2): save the table as UTF-8"
    assert unnamed(batch) == ["1.png", "2.png", "deep/3.png"]


def test_long_line_may_be_read_in_pieces_that_end_within_a_character(batch):
    """A table of old Macs has no end of a line that files know."""
    table(batch, "path,label\r" + f"1.png,{'é' * 1000}\r" * 600)
    assert not [entry for entry in find_entries(batch) if entry.reason == "unreadable_table"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns ; expected path and a column for each target"),
        ("image,label\n1.png,cat\n", "columns image, label; expected path and a column for each target"),
        ("path,label,label\n1.png,cat,dog\n", "column label appears twice"),
        ("path,group\n1.png,one\n", "columns path, group; expected a column for each target"),
        ("path,label\n1.png,cat\n".encode("utf-16"), "are not UTF-8 (the first is line 1): save the table as UTF-8"),
        ("path,Label,label\n1.png,cat,dog\n", "column label appears twice"),
    ],
)
def test_unreadable_table_is_a_defect_and_its_files_are_accounted_for(batch, text, message):
    table(batch, text)
    [entry] = [entry for entry in find_entries(batch) if entry.reason == "unreadable_table"]
    assert entry.path == "labels.csv"
    assert message in entry.detail
    assert unnamed(batch) == ["1.png", "2.png", "deep/3.png"]


def test_table_of_domains_alone_names_samples_without_a_label(batch):
    table(batch, "path,domain\n1.png,cartoon\n2.png,\ndeep/3.png,photo\n")
    assert labels_or_reasons(batch) == {"1.png": {"domain": "cartoon"}, "2.png": {}, "deep/3.png": {"domain": "photo"}}


def test_table_that_is_a_link_out_of_the_batch_is_not_read(batch, tmp_path):
    (tmp_path / "secret").write_text("path,label\n1.png,cat\n")
    (batch / "labels.csv").symlink_to(tmp_path / "secret")
    assert labels_or_reasons(batch) == {"labels.csv": "outside_batch"}
    assert unnamed(batch) == ["1.png", "2.png", "deep/3.png"]


def test_table_that_is_a_pipe_is_not_opened(batch):
    os.mkfifo(batch / "labels.csv")
    assert labels_or_reasons(batch) == {"labels.csv": "not_an_image"}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../secret.png", "outside_batch"),
        ("deep/../1.png", "outside_batch"),
        ("/etc/passwd", "outside_batch"),
        ("out.png", "outside_batch"),
        ("way/secret.png", "outside_batch"),
        ("gone.png", "missing_file"),
        ("a" * 5000, "missing_file"),
        ("deep/3.png/x", "missing_file"),
        ("", "missing_file"),
        (".", "missing_file"),
        ("loop.png", "missing_file"),
        ("deep", "not_an_image"),
        ("labels.csv", "not_an_image"),
        (".hidden.png", "hidden_file"),
        ("1\0.png", "missing_file"),
    ],
)
def test_row_that_names_no_file_of_the_batch_is_a_defect(batch, tmp_path, path, reason):
    (tmp_path / "secret.png").touch()
    (batch / "out.png").symlink_to(tmp_path / "secret.png")
    (batch / "way").symlink_to(tmp_path)
    (batch / "loop.png").symlink_to("loop.png")
    (batch / ".hidden.png").touch()
    table(batch, f"path,label\n{path},cat\n")
    [entry] = [entry for entry in find_entries(batch) if entry.said]
    assert entry.reason == reason
    assert entry.said == {"label": "cat"}


cells = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(st.lists(cells, max_size=5), max_size=6), names=st.lists(cells, max_size=4))
def test_any_table_gives_an_entry_for_each_file(batch, rows, names):
    lines = [",".join(["path", "label", *names])] + [",".join(row) for row in rows]
    table(batch, "\n".join(lines))
    entries = find_entries(batch)
    assert {"1.png", "2.png", "deep/3.png"} <= {entry.path for entry in entries}
    assert all("\n" not in entry.reason for entry in entries)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_give_an_entry_for_each_file(batch, content):
    table(batch, content)
    assert {"1.png", "2.png", "deep/3.png"} <= {entry.path for entry in find_entries(batch)}


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=60))
def test_file_of_any_name_is_found_by_its_row(tmp_path_factory, name):
    if name.startswith(".") or name != name.strip() or len(name.encode()) > 255:
        return
    batch = tmp_path_factory.mktemp("batch")
    (batch / name).touch()
    quoted = name.replace('"', '""')
    (batch / "labels.csv").write_bytes(f'path,label\r\n"{quoted}",cat\r\n'.encode())
    if name == "labels.csv":
        return
    assert [(entry.path, entry.reason) for entry in find_entries(batch)] == [(name, "")]


def test_keys_are_columns_in_any_case_of_letters(batch):
    table(batch, "Path,LABEL,Split,Group,Domain,Colour\n1.png,cat,Test,g,d,red\n")
    said = {"label": "cat", "split": "heldout", "group": "g", "domain": "d", "Colour": "red"}
    assert labels_or_reasons(batch) == {"1.png": said}


@pytest.mark.parametrize("name", ["file_name", "filename", "FileName", "filepath", "image_path"])
def test_column_of_paths_may_be_called_as_other_tools_call_it(batch, name):
    table(batch, f"label,{name}\ncat,1.png\n")
    assert labels_or_reasons(batch) == {"1.png": {"label": "cat"}}


@pytest.mark.parametrize(("cell", "label"), [("1.0", "1"), ("-3.00", "-3"), ("1.5", "1.5"), ("1.0.0", "1.0.0")])
def test_whole_float_is_the_whole_number(batch, cell, label):
    table(batch, f"path,label\n1.png,{cell}\n")
    assert labels_or_reasons(batch)["1.png"] == {"label": label}


@pytest.mark.parametrize(
    "path",
    [
        "deep/3",
        "DEEP/3.PNG",
        "deep\\3.png",
        ".\\Deep\\3",
        "./deep//3.png",
        "3.png",
        "3",
        "batch/deep/3.png",
        "raw/batch/deep/3.png",
        "/home/ann/batch/deep/3.png",
        "C:\\birds\\batch\\deep\\3.png",
    ],
)
def test_path_that_is_not_quite_the_files_means_the_one_file_that_fits(batch, path):
    table(batch, f"path,label\n{path},cat\n")
    assert labels_or_reasons(batch) == {"deep/3.png": {"label": "cat"}}
    assert unnamed(batch) == ["1.png", "2.png"]


def test_folder_called_like_the_batch_in_a_path_that_leads_elsewhere_is_no_batch(batch):
    table(batch, "path,label\nother/batch/1.png,cat\n")
    [entry] = [entry for entry in find_entries(batch) if entry.said]
    assert entry.reason == "missing_file"


def test_absolute_path_of_a_file_of_the_batch_means_that_file(batch):
    table(batch, f"path,label\n{batch}/deep/3.png,cat\n")
    assert labels_or_reasons(batch) == {"deep/3.png": {"label": "cat"}}


def test_path_that_several_files_fit_means_none_of_them(batch):
    (batch / "deep/2.jpg").touch()
    (batch / "2.jpg").touch()
    table(batch, "path,label\n2,cat\n")
    [entry] = [entry for entry in find_entries(batch) if entry.said]
    assert (entry.reason, entry.detail) == ("missing_file", "no such file, and 2 fit it: 2.jpg, 2.png")


def test_note_beside_a_sample_leaves_no_doubt_about_the_sample(batch):
    (batch / "1.txt").touch()
    (batch / "._1.png").touch()
    table(batch, "path,label\n1,cat\n")
    [entry] = [entry for entry in find_entries(batch, endings=(".png",)) if entry.said]
    assert (entry.path, entry.reason) == ("1.png", "")


def test_file_of_another_ending_is_named_and_not_taken(batch):
    table(batch, "path,label\n1.jpg,cat\nother/2.png,cat\n")
    details = {entry.path: entry.detail for entry in find_entries(batch) if entry.reason}
    assert details == {"1.jpg": "no such file: is it 1.png?", "other/2.png": "no such file"}


@pytest.mark.parametrize(
    "path", ["batch/../../secret.png", "/x/batch/../secret.png", "\\..\\secret.png", "C:\\secret.png"]
)
def test_path_that_resembles_a_file_leads_to_no_other_place(batch, tmp_path, path):
    (tmp_path / "secret.png").touch()
    table(batch, f"path,label\n{path},cat\n")
    [entry] = [entry for entry in find_entries(batch) if entry.said]
    assert entry.reason in ("missing_file", "outside_batch")
