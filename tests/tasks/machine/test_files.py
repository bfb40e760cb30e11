import contextlib
import math
import os
import stat

import pytest

from tasks.machine.files import no_link, read_json, whole_file, whole_folder, write_json, write_whole


def fill(folder):
    (folder / "inner").mkdir()
    (folder / "inner" / "new").write_text("new", "utf-8")


def test_written_file_leaves_nothing_beside_it(tmp_path):
    with whole_file(tmp_path / "deep" / "out.csv") as path:
        path.write_text("all of it", "utf-8")
    assert (tmp_path / "deep" / "out.csv").read_text("utf-8") == "all of it"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out.csv"]


def test_failed_write_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("old", "utf-8")
    with contextlib.suppress(RuntimeError), whole_file(out) as path:
        path.write_text("half", "utf-8")
        raise RuntimeError
    assert out.read_text("utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_folder_replaces_the_old_one(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").touch()
    with whole_folder(out) as folder:
        fill(folder)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "out",
        "out/inner",
        "out/inner/new",
    ]


def test_failed_write_keeps_the_old_folder_and_leaves_nothing_beside_it(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").touch()
    with contextlib.suppress(RuntimeError), whole_folder(out) as folder:
        fill(folder)
        raise RuntimeError
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["out", "out/old"]


def test_leftovers_of_a_killed_run_do_not_get_into_the_folder(tmp_path):
    leftovers = tmp_path / ".out.part"
    leftovers.mkdir()
    (leftovers / "stale").touch()
    with whole_folder(tmp_path / "out") as folder:
        fill(folder)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["inner"]


def test_equal_contents_give_equal_bytes_of_json(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": "ü"})
    write_json(tmp_path / "b.json", {"a": "ü", "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_json(tmp_path / "a.json") == {"a": "ü", "b": 1}


def test_not_a_number_is_refused_in_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": math.nan})


def test_missing_json_is_reported_with_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"metrics\.json is missing: run the stage that makes it, or `dvc pull`"):
        read_json(tmp_path / "metrics.json")


def test_torn_json_is_reported_with_the_remedy(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"accuracy": 0.', "utf-8")
    with pytest.raises(ValueError, match=r"metrics\.json is not JSON .*: remove it and run the stage"):
        read_json(path)


def test_device_or_folder_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ValueError, match="is not a regular file"), whole_file(place) as path:
            path.write_text("new")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def planted(beside, kind, victim):
    """Plant a link to a file, to nothing or to a folder where a writer puts its content before it is whole."""
    victim.mkdir()
    (victim / "key").write_text("precious", "utf-8")
    target = {"file": victim / "key", "dangling": victim / "new", "folder": victim}[kind]
    beside.symlink_to(target)


@pytest.mark.parametrize("kind", ["file", "dangling", "folder"])
@pytest.mark.parametrize("writer", ["whole_file", "whole_folder", "write_whole"])
def test_planted_link_is_never_followed_and_blocks_no_run(tmp_path, writer, kind):
    out = tmp_path / "out"
    planted(tmp_path / ".out.part", kind, tmp_path / "victim")
    if writer == "write_whole":
        write_whole(out, b"new")
    elif writer == "whole_file":
        with whole_file(out) as path:
            path.write_text("new", "utf-8")
    else:
        with whole_folder(out) as path:
            fill(path)
    assert (out / "inner" / "new" if writer == "whole_folder" else out).read_text("utf-8") == "new"
    assert [path.name for path in (tmp_path / "victim").iterdir()] == ["key"]
    assert (tmp_path / "victim/key").read_text("utf-8") == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "victim"]


def test_folder_in_which_a_file_is_written_is_its_owners_alone(tmp_path):
    with whole_file(tmp_path / "out") as path:
        path.write_text("new", "utf-8")
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.parent.parent == tmp_path


def test_leftovers_of_a_killed_run_block_no_file(tmp_path):
    (tmp_path / ".out.part").mkdir()
    (tmp_path / ".out.part" / "out").write_text("half", "utf-8")
    write_whole(tmp_path / "out", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_folder_never_replaces_a_file_or_a_link(tmp_path, kind):
    out = tmp_path / "out"
    (tmp_path / "target").mkdir()
    out.write_text("mine", "utf-8") if kind == "file" else out.symlink_to(tmp_path / "target")
    with pytest.raises(ValueError, match="is a file or a link, expected a folder"), whole_folder(out):
        pass
    assert out.is_symlink() or out.read_text("utf-8") == "mine"


@pytest.mark.parametrize("mode", ["a", "a+", "r+b", "w"])
def test_file_that_is_written_in_place_is_never_a_link(tmp_path, mode):
    (tmp_path / "key").write_text("precious", "utf-8")
    (tmp_path / "lock").symlink_to(tmp_path / "key")
    with pytest.raises(OSError, match="it is a link, expected a file: remove it"):
        open(tmp_path / "lock", mode, opener=no_link)  # noqa: SIM115 (nothing is opened)
    with open(tmp_path / "own", "a", opener=no_link) as file:
        file.write("1")
    assert ((tmp_path / "key").read_text("utf-8"), (tmp_path / "own").read_text("utf-8")) == ("precious", "1")
