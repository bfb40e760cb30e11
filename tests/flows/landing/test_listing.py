"""The batches in a landing: whether each is whole, and which are refused."""

import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from flows.landing.listing import Landing, Mark
from flows.landing.places import open_store
from tests.kit.deep import deep_folder

# botocore and moto cause them
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

HOUR = 3600.0


def look(address, marker="_COMPLETE"):
    return Landing(open_store(str(address)), marker=marker).look()


def only(address):
    [batch] = look(address).batches
    return batch


def paths(batch):
    return [file.path for file in batch.files]


def test_batches_are_the_folders_and_the_parquet_files_and_nothing_hidden(land):
    landing = land(
        {"a/x/1.png": b"1", "b.parquet": b"2", ".hidden/x": b"3", ".graftline/a.json": b"{}", "note.txt": b""}
    )
    listing = look(landing)
    assert [batch.name for batch in listing.batches] == ["a", "b.parquet"]
    assert listing.strays == ("note.txt",)
    assert listing.marks >= {".graftline/a.json"}


def test_tables_are_batches_of_texts_and_no_batches_of_images(land):
    landing = land(
        {"a.csv": b"1", "b.TSV": b"1", "c.jsonl": b"1", "d.parquet": b"1", "e.txt": b"1", "a.csv._COMPLETE": b""}
    )
    listing = Landing(open_store(str(landing)), marker="_COMPLETE", modality="text").look()
    assert [batch.name for batch in listing.batches] == ["a.csv", "b.TSV", "c.jsonl", "d.parquet"]
    assert [batch.has_marker for batch in listing.batches] == [True, False, False, False]
    assert listing.strays == ("e.txt",)
    assert [batch.name for batch in look(landing).batches] == ["d.parquet"]


def test_marker_makes_a_batch_whole_at_once_and_does_not_belong_to_it(land):
    landing = land({"a/x/1.png": b"1", "b.parquet": b"2"})
    assert [bool(batch.why_not_whole(HOUR)) for batch in look(landing).batches] == [True, True]
    land({"a/_COMPLETE": b"", "b.parquet._COMPLETE": b""})
    listing = look(landing)
    assert [batch.why_not_whole(HOUR) for batch in listing.batches] == ["", ""]
    assert [paths(batch) for batch in listing.batches] == [["a/x/1.png"], ["b.parquet"]]


def test_marker_can_have_another_name(land):
    landing = land({"a/1.png": b"1", "a/_SUCCESS": b""})
    assert look(landing, marker="_SUCCESS").batches[0].has_marker
    assert not only(landing).has_marker


@pytest.mark.parametrize("marker", ["", ".", "..", "*", "a/b"])
def test_marker_that_names_no_file_is_refused(land, marker):
    with pytest.raises(ValueError, match="expected the name of a file"):
        look(land({"a/1.png": b"1"}), marker=marker)


def test_old_time_that_was_kept_by_copying_does_not_make_a_batch_quiet(land):
    landing = land({"a/1.png": b"1"})
    os.utime(landing / "a/1.png", (1, 1))
    os.utime(landing / "a", (1, 1))
    assert only(landing).why_not_whole(HOUR)


def test_time_ahead_of_the_clock_does_not_keep_a_batch_waiting(land):
    landing = land({"a/1.png": b"1"})
    os.utime(landing / "a/1.png", (time.time() + HOUR, time.time() + HOUR))
    assert only(landing).why_not_whole(0) == ""


def test_empty_folder_is_not_whole_even_with_a_marker(land):
    landing = land({"a/_COMPLETE": b""})
    assert only(landing).why_not_whole(0) == "it is empty"


@pytest.mark.parametrize("target", ["../../secret", "/etc/passwd", "../b/1.png", "nowhere", "2.png", "folder"])
def test_link_that_leads_to_no_file_of_the_batch_is_refused(land, target):
    landing = land({"../secret": b"s", "b/1.png": b"1", "a/folder/1.png": b"1"})
    (landing / "a/2.png").symlink_to(target)
    refused = look(landing).batches[0]
    assert refused.problem.startswith("'a/2.png' is a link that leads to no file of the batch")
    with pytest.raises((OSError, ValueError, RuntimeError)):
        list(open_store(str(landing)).blocks("a/2.png"))


def test_link_to_a_file_of_the_batch_is_that_file(land):
    landing = land({"a/1.png": b"one"})
    (landing / "a/2.png").symlink_to("1.png")
    assert only(landing).problem == ""
    assert b"".join(open_store(str(landing)).blocks("a/2.png")) == b"one"


def test_folder_that_became_a_link_after_it_was_listed_is_not_followed(land):
    landing = land({"a/x/1.png": b"1", "../elsewhere/1.png": b"secret"})
    store = open_store(str(landing))
    (landing / "a/x").rename(landing / "a/y")
    (landing / "a/x").symlink_to(landing.parent / "elsewhere")
    with pytest.raises((OSError, ValueError)):
        list(store.blocks("a/x/1.png"))


def test_batch_that_is_itself_a_link_and_a_pipe_are_refused(land):
    landing = land({"../elsewhere/1.png": b"1", "a/1.png": b"1"})
    (landing / "link").symlink_to(landing.parent / "elsewhere")
    os.mkfifo(landing / "a/pipe")
    assert [batch.problem.split(":")[0] for batch in look(landing).batches] == [
        "'a/pipe' is not a regular file",
        "'link' is a link that leads to no file of the batch",
    ]


def problems(landing):
    return {batch.name: batch.problem for batch in look(landing).batches}


def test_folder_that_a_program_made_is_no_batch(land):
    listing = look(land({"a/x/1.png": b"1", "__MACOSX/a/x/._1.png": b"2", "@eaDir/1.png": b"3", "lost+found/x": b""}))
    assert [batch.name for batch in listing.batches] == ["a"]
    assert listing.strays == ("@eaDir", "__MACOSX", "lost+found")


def test_bare_class_folders_are_refused_by_name(land):
    landing = land({"kestrel/1.png": b"1", "merlin/1.png": b"2", "b/x/1.png": b"3", "c.parquet": b"4"})
    found = problems(landing)
    assert found["b"] == found["c.parquet"] == ""
    assert found["kestrel"] == found["merlin"]
    assert found["merlin"].startswith("looks like a class folder, as it holds files alone, without a table")


def test_bare_folders_of_splits_are_refused_by_name(land):
    found = problems(land({"train/x/1.png": b"1", "Test/x/1.png": b"2", "2024/x/1.png": b"3"}))
    assert found["2024"] == ""
    assert found["train"] == found["Test"]
    assert found["train"].startswith("is called after a split: put the folders of all splits into one folder")


def test_folders_without_labels_are_batches_where_a_marker_or_a_table_says_so(land):
    landing = land({"a/1.png": b"1", "a/_COMPLETE": b"", "b/1.png": b"2", "b/labels.csv": b"path", "c/1.png": b"3"})
    assert set(problems(landing).values()) == {""}
    land({"d/1.png": b"4"})
    assert [name for name, problem in problems(landing).items() if problem] == ["c", "d"]
    Landing(open_store(str(landing)), marker="_COMPLETE").mark("c", MARK)
    assert set(problems(landing).values()) == {""}


def test_folder_that_is_far_too_deep_is_refused_with_its_batch_only(land):
    landing = land({"a/x/1.png": b"1", "b/x/1.png": b"1"})
    with deep_folder(landing / "b", depth=150, file=b"deep"):
        found = problems(landing)
    assert found["a"] == ""
    assert "has more than 100 folders around it" in found["b"]


@pytest.mark.parametrize("name", [".dvcignore", ".git/config", ".dvc/config", "x/__pycache__/y"])
def test_files_that_dvc_would_ignore_are_named(land, name):
    assert "is ignored by DVC" in only(land({"a/1.png": b"1", f"a/{name}": b""})).problem


def test_name_that_is_not_utf_8_is_reported_in_one_line(land):
    landing = land({"a/1.png": b"1"})
    Path(os.fsdecode(os.fsencode(landing / "a") + b"/\xff.png")).write_bytes(b"1")
    assert only(landing).problem.startswith("'a/\\udcff.png' has a name that is not UTF-8")


MARK = Mark(batch="a", md5="0" * 32, files=1, bytes=1, fingerprint="f")


@pytest.mark.parametrize("content", ["[]", '{"batch": "b"}', json.dumps(asdict(MARK) | {"md5": []}), "torn"])
def test_mark_is_read_back_and_another_programs_is_ignored(land, content):
    landing = Landing(open_store(str(land({"a/1.png": b"1", "b/1.png": b"1"}))), marker="_COMPLETE")
    landing.mark("a", MARK)
    land({".graftline/b.json": content.encode()})
    listing = landing.look()
    assert [landing.mark_of(batch, marks=listing.marks) for batch in listing.batches] == [MARK, None]


def test_mark_is_not_written_through_a_link(land):
    place = land({"a/1.png": b"1", "../elsewhere/x": b"theirs"})
    landing = Landing(open_store(str(place)), marker="_COMPLETE")
    (place / ".graftline").symlink_to(place.parent / "elsewhere")
    with pytest.raises(OSError, match="is a link"):
        landing.mark("a", MARK)
    (place / ".graftline").unlink()
    (place / ".graftline").mkdir()
    for name in (".a.json.part", "a.json"):
        (place / ".graftline" / name).symlink_to(place.parent / "elsewhere/x")
    landing.mark("a", MARK)
    assert [file.read_bytes() for file in (place.parent / "elsewhere").iterdir()] == [b"theirs"]


def test_name_of_255_bytes_can_be_marked(land):
    landing = Landing(open_store(str(land({f"{'n' * 255}/1.png": b"1"}))), marker="_COMPLETE")
    landing.mark("n" * 255, MARK)
    listing = landing.look()
    assert landing.mark_of(listing.batches[0], marks=listing.marks) == MARK


@pytest.mark.parametrize("key", ["odd//1.png", "odd/../1.png", "odd/./1.png", "/odd/1.png", "../1.png", "odd/1.png/"])
def test_key_that_is_not_a_path_is_refused(bucket, key):
    bucket(f"land/{key}", b"1")
    assert "is a key that is not a path" in only("s3://door/land").problem


def test_empty_key_that_ends_in_a_slash_is_a_folder(bucket):
    for key in ("land/", "land/a/", "land/a/x/"):
        bucket(key)
    assert only("s3://door/land").why_not_whole(0) == "it is empty"
    bucket("land/a/x/1.png", b"1")
    assert paths(only("s3://door/land")) == ["a/x/1.png"]
    assert only("s3://door/land").problem == ""


def test_key_that_is_a_file_and_a_folder_is_refused(bucket):
    bucket("land/a/x", b"1")
    bucket("land/a/x/1.png", b"1")
    assert only("s3://door/land").problem.startswith("'a/x' is a file and a folder at once")


def test_objects_are_read_marked_and_quiet_by_the_servers_clock(bucket):
    bucket("land/a/[x]*.png", b"one")
    landing = Landing(open_store("s3://door/land/"), marker="_COMPLETE")
    [batch] = landing.look().batches
    assert batch.why_not_whole(HOUR)
    assert not batch.why_not_whole(-HOUR)
    assert b"".join(landing.store.blocks("a/[x]*.png")) == b"one"
    landing.mark("a", MARK)
    assert landing.mark_of(batch, marks=landing.look().marks) == MARK
    assert landing.again(batch) == batch


def test_other_stores_of_fsspec_are_landings_too():
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem().pipe_file("/door/a/1.png", b"1")
    assert paths(only("memory://door")) == ["a/1.png"]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("/no/such/place", "there is no landing at /no/such/place"),
        ("s3://nobucket/land", "The specified bucket does not exist"),
        ("gs://somewhere", "pip install gcsfs"),
        ("nonsense://somewhere", "Protocol not known: nonsense"),
        ("s3://door/lnad", "s3://door/lnad: nothing is there, expected batches: check the address"),
        ("memory://lnad", "nothing is there"),
        ("http://127.0.0.1:9/land", "nothing is there"),
        ("s3://", "expected one with a path"),
        ("memory://", "expected one with a path"),
        ("sftp://me:secret@host/land", "holds a password"),
    ],
)
def test_wrong_address_is_reported_in_one_line(bucket, address, message):
    with pytest.raises((OSError, ValueError), match=message) as refused:
        look(address)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_empty_landing_is_a_landing(bucket, land):
    assert look("s3://door").batches == look(land({"note.txt": b""})).batches == ()
    bucket("land/")
    assert look("s3://door/land").batches == ()


def test_landing_that_disappeared_is_reported_and_does_not_count_as_empty(land):
    landing = land({"a/1.png": b"1"})
    store = open_store(str(landing))
    landing.rename(landing.with_name("elsewhere"))
    with pytest.raises(FileNotFoundError):
        list(store.find())


def test_path_too_long_for_the_system_is_refused_with_its_batch_only(land):
    landing = land({"a/1.png": b"1", "deep/1.png": b"1"})
    folder = os.open(landing / "deep", os.O_RDONLY)
    for _ in range(20):
        os.mkdir("n" * 250, dir_fd=folder)
        folder, above = os.open("n" * 250, os.O_RDONLY, dir_fd=folder), folder
        os.close(above)
    os.close(folder)
    a, deep = look(landing).batches
    assert a.problem == ""
    assert "cannot be read (File name too long)" in deep.problem


def test_missing_credentials_are_reported_in_one_line(bucket, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(OSError, match="Unable to locate credentials"):
        look("s3://door/land")
