import os
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tasks.data.samples.samples import sample_id
from tasks.scan import run
from tasks.stage.params import ScanParams

PARAMS = ScanParams(min_image_size=8, max_image_pixels=10_000, max_file_bytes=100_000, max_decode_seconds=5.0)


@pytest.fixture
def scan(tmp_path):
    def go(raw):
        run(raw=raw, out=tmp_path / "scanned", scan=PARAMS)
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
        "stray.txt": "label_missing",
        "dog/empty.png": "empty_file",
        "dog/.hidden": "hidden_file",
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
