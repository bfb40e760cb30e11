"""A folder that a person names becomes a tracked and listed batch, once."""

from pathlib import Path

import pytest
import yaml

from flows.landing.handed import link_batches, source_of, take_handed
from flows.workspace.batches import digest_of, listed
from flows.workspace.hashes import hash_of


@pytest.fixture
def photos(tmp_path):
    for name in ("cat/1.jpg", "dog/2.jpg"):
        file = tmp_path / "My photos" / name
        file.parent.mkdir(parents=True)
        file.write_bytes(name.encode())
    return tmp_path / "My photos"


def test_folder_becomes_a_batch_once_and_stays_as_it_is(workspace, photos):
    before = hash_of(photos)
    handed = take_handed(source_of(photos, may_be_texts=True), name=None, log=print)
    assert (handed.batch, handed.is_new) == ("My-photos", True)
    assert listed() == ["My-photos"]
    assert digest_of("My-photos") == hash_of(Path("data/raw/My-photos")) == before == hash_of(photos)
    again = take_handed(source_of(photos, may_be_texts=True), name="another", log=print)
    assert (again.batch, again.is_new) == ("My-photos", False)
    assert listed() == ["My-photos"]


def test_second_folder_is_a_second_batch_and_one_with_files_of_the_first_is_refused(workspace, photos):
    take_handed(photos, name="one", log=print)
    (photos / "cat/3.jpg").write_bytes(b"more")
    with pytest.raises(ValueError, match="changed after it was taken as one: 1 file more"):
        take_handed(photos, name="one", log=print)
    for file in (photos / "cat/1.jpg", photos / "dog/2.jpg"):
        file.unlink()
    take_handed(photos, name="two", log=print)
    assert listed() == ["one", "two"]


def test_folder_that_lies_among_the_raw_batches_stays_there(workspace, photos):
    place = photos.rename(workspace / "data/raw/mine")
    assert take_handed(source_of(place, may_be_texts=True), name=None, log=print).is_new
    assert listed() == ["mine"]
    assert not take_handed(source_of(place, may_be_texts=True), name=None, log=print).is_new


def test_links_store_a_batch_once(workspace, photos):
    link_batches(print)
    take_handed(photos, name=None, log=print)
    file = Path("data/raw/My-photos/cat/1.jpg")
    assert file.read_bytes() == b"cat/1.jpg"
    assert file.stat().st_nlink > 1 or file.is_symlink()
    assert (photos / "cat/1.jpg").stat().st_nlink == 1  # the source is nobody's but the person's


def test_place_that_is_no_batch_is_refused_in_a_sentence(workspace, photos, tmp_path):
    (photos / "labels.csv").write_text("path,label\n", "utf-8")
    (photos / "all.json").write_text("[]", "utf-8")
    assert source_of(photos / "labels.csv", may_be_texts=True) == photos
    for path, problem in {
        tmp_path / "none": "there is nothing at",
        photos / "cat/1.jpg": "is a file: name the folder",
        photos / "all.json": "write it as JSON Lines",
        workspace: "is no place for a batch",
        workspace.parent: "is no place for a batch",
        workspace / "data": "is no place for a batch",  # it holds data/raw
    }.items():
        with pytest.raises(ValueError, match=problem):
            source_of(path, may_be_texts=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="is empty: name a folder with samples in it"):
        take_handed(tmp_path / "empty", name=None, log=print)
    assert yaml.safe_load(Path("data/batches.yaml").read_text("utf-8")) == {"batches": []}


def test_table_of_texts_is_a_batch_and_keeps_its_ending(workspace, tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in ("My reviews.csv", "more.JSONL", "labels.csv"):
        (folder / name).write_text(f"text,label\n{name},good\n", "utf-8")
    source = source_of(folder / "My reviews.csv", may_be_texts=True)
    assert take_handed(source, name=None, log=print).batch == "My-reviews.csv"
    assert take_handed(folder / "more.JSONL", name="second", log=print).batch == "second.JSONL"
    assert not take_handed(source, name="again", log=print).is_new
    assert Path("data/raw/My-reviews.csv").read_bytes() == source.read_bytes()
    assert listed() == ["My-reviews.csv", "second.JSONL"]
    assert source_of(source, may_be_texts=False) == folder


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("labels.csv", "text,label"),
        ("metadata.jsonl", '{"text": "a", "label": "b"}'),
        ("labels.tsv", "Ann\xff\tb"),
        ("a.ndjson", '{"text": "a"}'),
        ("a.tab", "text\tlabel"),
    ],
)
def test_table_of_texts_never_stands_for_the_folder_around_it(workspace, tmp_path, name, first):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / name).write_bytes(f"{first}\n".encode("latin-1"))
    source = source_of(tmp_path / "home" / name, may_be_texts=True)
    assert source.name == name
    assert take_handed(source, name="mine", log=print).batch == f"mine{source.suffix}"
