import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tasks.data.samples.samples import sample_id
from tasks.scan import run
from tasks.stage.params import ScanParams

PARAMS = ScanParams(
    min_image_size=8, max_image_pixels=10_000, max_file_bytes=100_000, max_decode_seconds=5.0,
    text_columns=None, encoding=None, min_characters=1, max_characters=1000,
)  # fmt: skip


@pytest.fixture
def scan(tmp_path):
    def go(raw):
        run(raw=raw, out=tmp_path / "scanned", scan=PARAMS, modality="images")
        defects = pd.read_parquet(tmp_path / "scanned" / "defects.parquet")
        return pd.read_parquet(tmp_path / "scanned" / "samples.parquet"), defects

    return go


def test_sample_has_its_facts(scan, batch):
    Image.linear_gradient("L").resize((30, 20)).save(batch / "cat" / "grey.jpg", format="JPEG")
    samples, defects = scan(batch)
    row = samples.set_index("path").loc["cat/grey.jpg"]
    assert row.dropna().to_dict() == {
        "sample_id": sample_id((batch / "cat" / "grey.jpg").read_bytes()),
        "label": "cat",
        "format": "JPEG",
        "mode": "L",
        "width": 30,
        "height": 20,
    }
    assert defects.empty


def test_every_file_is_a_sample_or_a_defect(scan, batch):
    (batch / "stray.txt").write_text("notes", "utf-8")
    (batch / "dog" / "empty.png").touch()
    (batch / "dog" / ".hidden").write_text("x", "utf-8")
    (batch / "dog" / "deep").mkdir()
    (batch / "dog" / "deep" / "torn.png").write_bytes((batch / "dog" / "0.png").read_bytes()[:100])
    (batch / "dog" / "gone.png").symlink_to("nowhere.png")
    (batch / "eel").mkdir()
    Path(os.fsdecode(bytes(batch) + b"/dog/caf\xe9.png")).touch()
    samples, defects = scan(batch)
    assert len(samples) == 6
    assert dict(zip(defects["path"], defects["reason"], strict=True)) == {
        "stray.txt": "not_a_sample",
        "dog/empty.png": "empty_file",
        "dog/.hidden": "not_a_sample",
        "dog/deep/torn.png": "truncated",
        "dog/gone.png": "missing_file",
        "dog/caf\\xe9.png": "name_not_text",
        "eel": "empty_class_folder",
    }
    assert defects["detail"].ne("").all()


def test_bad_picture_has_the_identity_of_its_bytes(scan, batch):
    (batch / "dog" / "note.png").write_text("no picture", "utf-8")
    _, defects = scan(batch)
    assert defects["sample_id"].tolist() == [sample_id(b"no picture")]


COMPANIONS = {
    "cat/._0.png": b"\0\5\x16\7\0\2\0\0Mac OS X",
    "cat/.DS_Store": b"\0\0\0\1Bud1",
    "cat/Thumbs.db": b"\xd0\xcf\x11\xe0",
    "cat/desktop.ini": b"[.ShellClassInfo]",
    "cat/0.json": b"{}",
    "cat/0.png.xmp": b"<x/>",
    "cat/checksums.md5": b"0 0.png",
    "README.md": b"# Birds",
    "LICENSE": b"CC-BY",
    "notes.txt": b"0.png is blurred",
    "_SUCCESS": b"",
    "__MACOSX/cat/._0.png": b"\0\5\x16\7",
    "docs/index.html": b"<html>",
}


def test_file_that_nobody_meant_as_a_sample_is_no_defect(scan, batch):
    for path, content in COMPANIONS.items():
        (batch / path).parent.mkdir(parents=True, exist_ok=True)
        (batch / path).write_bytes(content)
    samples, defects = scan(batch)
    assert len(samples) == 6
    assert set(samples["label"]) == {"cat", "dog"}
    assert dict(zip(defects["path"], defects["reason"], strict=True)) == dict.fromkeys(COMPANIONS, "not_a_sample")
    assert defects["detail"].ne("").all()


def test_preview_that_a_program_made_is_no_sample(scan, batch):
    (batch / "@eaDir/0.png").mkdir(parents=True)
    shutil.copy(batch / "cat/0.png", batch / "@eaDir/0.png/SYNOPHOTO_THUMB_M.png")
    samples, defects = scan(batch)
    assert set(samples["label"]) == {"cat", "dog"}
    assert defects["reason"].tolist() == ["not_a_sample"]


@pytest.mark.parametrize("name", [".0.png", ".0", "._0.png"])
def test_hidden_picture_is_a_defect(scan, batch, name):
    (batch / "cat/0.png").rename(batch / "cat" / name)
    _, defects = scan(batch)
    assert defects["reason"].tolist() == ["hidden_file"]
    assert defects["sample_id"].tolist() == [sample_id((batch / "cat" / name).read_bytes())]


@pytest.mark.parametrize(
    ("name", "content"), [("lost.png", b"text"), ("lost.heic", b"x"), ("lost", b"\x89PNG\r\n\x1a\n")]
)
def test_file_that_is_called_or_begins_like_a_picture_is_a_loss(scan, batch, name, content):
    (batch / "cat" / name).write_bytes(content)
    _, defects = scan(batch)
    assert defects["reason"].tolist() != ["not_a_sample"]
    assert len(defects) == 1


def test_file_that_a_row_names_is_meant_as_a_sample(scan, batch):
    (batch / "notes.txt").write_text("notes", "utf-8")
    (batch / "labels.csv").write_text("path,label\nnotes.txt,cat\ncat/0.png,cat\n", "utf-8")
    samples, defects = scan(batch)
    assert defects[["path", "reason"]].to_numpy().tolist() == [["notes.txt", "not_an_image"]]
    assert samples["label"].notna().sum() == 1
    assert len(samples) == 6  # each picture once, with or without a label


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_that_may_not_be_read_is_a_defect(scan, batch):
    (batch / "dog" / "0.png").chmod(0)
    _, defects = scan(batch)
    assert defects["reason"].tolist() == ["unreadable"]


def test_batch_without_files_gives_empty_tables(scan, tmp_path):
    (tmp_path / "empty").mkdir()
    samples, defects = scan(tmp_path / "empty")
    assert (len(samples), len(defects)) == (0, 0)


def test_same_batch_gives_the_same_bytes(scan, batch, tmp_path):
    def contents():
        scan(batch)
        return {each.name: each.read_bytes() for each in (tmp_path / "scanned").iterdir()}

    assert contents() == contents()


def test_missing_batch_is_refused_before_anything_is_written(scan, tmp_path):
    with pytest.raises(ValueError, match=r"there is no batch .*gone: put it there, `dvc pull` it, or take it out"):
        scan(tmp_path / "gone")
    assert not (tmp_path / "scanned").exists()
