import os
from pathlib import Path

import pytest

from tasks.data.raw.layouts import find_entries
from tests.kit.deep import deep_folder


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "batch"
    (folder / "cat").mkdir(parents=True)
    (folder / "cat" / "1.png").write_bytes(b"one")
    return folder


def labels_and_reasons(root):
    """Return (label, reason) by path; assert that every path has one entry."""
    entries = find_entries(root)
    by_path = {entry.path: (entry.said.get("label"), entry.reason) for entry in entries}
    assert len(by_path) == len(entries)
    return by_path


def test_name_of_the_outermost_folder_is_the_label(root):
    (root / "cat" / "wild" / "lynx").mkdir(parents=True)
    (root / "cat" / "wild" / "lynx" / "2.png").touch()
    assert labels_and_reasons(root) == {"cat/1.png": ("cat", ""), "cat/wild/lynx/2.png": ("cat", "")}


def test_entries_are_sorted_by_path(root):
    for name in ("b", "a", "10", "9"):
        (root / name).mkdir()
        (root / name / "x.png").touch()
    paths = [entry.path for entry in find_entries(root)]
    assert paths == ["10/x.png", "9/x.png", "a/x.png", "b/x.png", "cat/1.png"]


def test_file_in_no_class_folder_is_a_sample_without_a_label(root):
    (root / "stray.png").touch()
    assert labels_and_reasons(root)["stray.png"] == (None, "")


def test_class_folder_without_files_is_a_defect(root):
    (root / "dog" / "nothing").mkdir(parents=True)
    assert labels_and_reasons(root)["dog"] == ("dog", "empty_class_folder")


def test_hidden_file_is_a_defect(root):
    (root / "cat" / ".DS_Store").touch()
    (root / ".directory").touch()
    assert labels_and_reasons(root) == {
        "cat/1.png": ("cat", ""),
        "cat/.DS_Store": ("cat", "hidden_file"),
        ".directory": (None, "hidden_file"),
    }


def test_link_that_leaves_the_batch_is_a_defect(root, tmp_path):
    (tmp_path / "secret.png").touch()
    (root / "cat" / "link.png").symlink_to(tmp_path / "secret.png")
    assert labels_and_reasons(root)["cat/link.png"] == ("cat", "outside_batch")


def test_class_folder_that_is_a_link_out_of_the_batch_gives_no_sample(root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.png").touch()
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    files = labels_and_reasons(root)
    assert files["dog"] == (None, "outside_batch")
    assert files["cat/more"] == ("cat", "outside_batch")


def test_link_inside_the_batch_is_a_sample(root):
    (root / "cat" / "link.png").symlink_to("1.png")
    assert labels_and_reasons(root)["cat/link.png"] == ("cat", "")


def test_dangling_link_is_a_defect(root):
    (root / "cat" / "link.png").symlink_to("gone.png")
    (root / "link.png").symlink_to("gone.png")
    assert labels_and_reasons(root)["cat/link.png"] == ("cat", "missing_file")
    assert labels_and_reasons(root)["link.png"] == (None, "missing_file")


def test_link_to_itself_is_a_defect(root):
    (root / "cat" / "loop.png").symlink_to("loop.png")
    label, reason = labels_and_reasons(root)["cat/loop.png"]
    assert label == "cat"
    assert reason


def test_pipe_is_a_defect_and_is_not_read(root):
    os.mkfifo(root / "cat" / "pipe.png")
    assert labels_and_reasons(root)["cat/pipe.png"] == ("cat", "not_an_image")


def test_name_that_is_not_utf8_is_a_defect_under_a_readable_name(root):
    Path(os.fsdecode(bytes(root / "cat") + b"/caf\xe9.png")).touch()
    assert labels_and_reasons(root)["cat/caf\\xe9.png"] == ("cat", "name_not_text")


def test_class_folder_whose_name_is_not_utf8_gives_no_sample(root):
    folder = Path(os.fsdecode(bytes(root) + b"/caf\xe9"))
    folder.mkdir()
    (folder / "1.png").touch()
    assert labels_and_reasons(root)["caf\\xe9/1.png"] == ("caf\\xe9", "name_not_text")


def test_names_in_any_alphabet_are_accepted(root):
    (root / "猫").mkdir()
    (root / "猫" / "a b,c\n.png").touch()
    assert labels_and_reasons(root)["猫/a b,c\n.png"] == ("猫", "")


def test_spaces_and_the_form_of_accents_make_no_other_class(root):
    for name in ("caf\u00e9", "cafe\u0301", " caf\u00e9 "):
        (root / name).mkdir()
        (root / name / "1.png").touch()
    labels = {label for path, (label, _) in labels_and_reasons(root).items() if path != "cat/1.png"}
    assert labels == {"caf\u00e9"}


def test_class_folder_with_a_blank_name_gives_samples_without_a_label(root):
    for name in (" ", "\u00a0"):
        (root / name).mkdir()
        (root / name / "1.png").touch()
    assert [entry for path, entry in labels_and_reasons(root).items() if path != "cat/1.png"] == [(None, "")] * 2


def test_whole_float_is_the_whole_number(root):
    for name in ("1", "1.0", "2.50"):
        (root / name).mkdir()
        (root / name / "1.png").touch()
    assert {label for label, _ in labels_and_reasons(root).values()} == {"cat", "1", "2.50"}


def test_folder_that_a_program_made_for_itself_is_no_empty_class(root):
    for name in (".git", "__MACOSX", "@eaDir"):
        (root / name).mkdir()
    assert list(labels_and_reasons(root)) == ["cat/1.png"]


def test_folder_that_is_far_too_deep_is_a_defect_and_costs_no_other_file(root):
    with deep_folder(root / "cat", depth=150):
        sound, deep = sorted(find_entries(root), key=lambda entry: entry.reason)
    assert (sound.path, sound.reason) == ("cat/1.png", "")
    assert (deep.path.count("/"), deep.reason) == (100, "too_deep")
