"""A batch of many files is packed as it comes in, and is known again."""

from pathlib import Path

import pytest

from flows.landing import packing
from flows.landing.handed import take_handed
from flows.workspace.batches import digest_of, listed
from flows.workspace.hashes import hash_of
from flows.workspace.parameters import PARAMS, pack_above
from tasks.data.samples.contents import read_content
from tasks.data.samples.packed import INDEX, open_pack


@pytest.fixture
def photos(workspace, tmp_path):
    PARAMS.write_text(PARAMS.read_text("utf-8").replace("pack_above: 20000", "pack_above: 3"), "utf-8")
    for name in ("cat/1.jpg", "cat/2.jpg", "dog/3.jpg", "dog/4.jpg"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    return tmp_path / "photos"


def test_batch_of_many_files_is_packed_and_tracked_in_that_form(photos):
    lines: list[str] = []
    assert take_handed(photos, name=None, log=lines.append).batch == "photos"
    place = Path("data/raw/photos")
    assert len(list(place.iterdir())) == 2
    assert read_content(place / "cat/1.jpg") == b"cat/1.jpg"
    assert digest_of("photos") == hash_of(place)
    assert [line for line in lines if line.startswith("packed photos: 4 files in 1 shard")]
    assert len(list(photos.rglob("*.jpg"))) == 4  # the source stays as it is


def test_packed_batch_is_known_again_and_one_that_grew_is_refused(photos, tmp_path):
    take_handed(photos, name=None, log=print)
    assert not take_handed(photos, name=None, log=print).is_new
    assert not take_handed(photos.rename(tmp_path / "another"), name=None, log=print).is_new
    assert listed() == ["photos"]
    (tmp_path / "another/cat/5.jpg").write_bytes(b"more")
    with pytest.raises(ValueError, match="changed after it was taken as photos: 1 file more"):
        take_handed(tmp_path / "another", name="photos", log=print)


def test_small_batch_stays_as_it_is(photos):
    (photos / "dog/4.jpg").unlink()
    take_handed(photos, name=None, log=print)
    assert sorted(path.name for path in Path("data/raw/photos/cat").iterdir()) == ["1.jpg", "2.jpg"]


def test_packed_batch_that_is_handed_in_is_checked(photos, tmp_path):
    take_handed(photos, name=None, log=print)
    place = Path("data/raw/photos").rename(tmp_path / "from a friend")
    Path("data/raw/photos.dvc").unlink()
    [shard] = open_pack(place).shards
    (place / shard.name).unlink()
    with pytest.raises(ValueError, match=f"the shard .*{shard.name} is missing"):
        take_handed(place, name="friend", log=print)
    assert not Path("data/raw/friend").exists()


def test_number_of_files_that_is_none_is_named(photos):
    PARAMS.write_text(PARAMS.read_text("utf-8").replace("pack_above: 3", "pack_above: many"), "utf-8")
    with pytest.raises(ValueError, match=r"ingest\.pack_above is not a number of files"):
        pack_above()


def test_doors_call_the_index_as_tasks_do():
    assert packing.INDEX == INDEX


def test_batch_of_many_tables_is_taken_as_it_is(photos):
    for number in range(5):
        (photos / f"{number}.csv").write_text("text,label\nHello,a\n")
    for picture in photos.rglob("*.jpg"):
        picture.unlink()
    lines: list[str] = []
    take_handed(photos, name=None, log=lines.append)
    assert "photos has no files to pack" in "\n".join(lines)
    assert (Path("data/raw/photos") / "0.csv").is_file()
