"""A notebook gets the answers that predict writes."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import tasks
from tasks.predict import predict


@pytest.fixture(scope="module")
def model(finished):
    return tasks.load(finished / "data/models/candidate", device="cpu")


@pytest.fixture(scope="module")
def files(finished):
    return sorted((finished / "data/raw").rglob("*.png"))[:20]


def test_answers_are_those_that_predict_writes(finished, model, files, tmp_path):
    predict(finished / "data/models/candidate", files, out=tmp_path / "out.parquet", device="cpu")
    written = pd.read_parquet(tmp_path / "out.parquet")
    table = model.predict(files)
    for column in ("path", "sample_id", "target", "label", "probability"):
        assert table[column].tolist() == written[column].tolist()


def test_arrays_are_answered_as_their_files_are(model, files):
    arrays = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    by_file, by_array = model.predict(files), model.predict(arrays)
    assert by_array["probability"].tolist() == by_file["probability"].tolist()
    assert by_array["path"][3] == "array 3"
    assert (model.embed(np.stack(arrays)) == model.embed(files)).all()
    assert model.embed(files).shape == (20, model.answerer.dim)


def test_what_is_no_picture_has_a_reason_and_no_vector(model, files, tmp_path):
    (tmp_path / "a.txt").write_text("no picture", "utf-8")
    assert model.predict([files[0], tmp_path / "a.txt"])["reason"].tolist()[1] == "not_an_image"
    with pytest.raises(ValueError, match=r"a\.txt is no picture \(not_an_image"):
        model.embed([files[0], tmp_path / "a.txt"])
    with pytest.raises(ValueError, match=r"an array is float64 \(8, 8\), expected uint8"):
        model.predict(np.zeros((8, 8)))


def test_a_column_of_paths_may_be_an_array(model, files):
    by_list = model.predict(files)
    for kind in (object, str):
        assert model.predict(np.array([str(file) for file in files], dtype=kind)).equals(by_list)


@pytest.mark.parametrize(
    ("pictures", "sentence"),
    [
        (Image.new("RGB", (8, 8)), "Image is neither a path nor an array"),
        ([Image.new("RGB", (8, 8))], "Image is neither a path nor an array"),
        (b"bytes", "bytes is neither a path nor an array"),
        (None, "NoneType is neither a path nor an array"),
        (np.zeros((0, 5, 3), np.uint8), r"an array is uint8 \(0, 5, 3\), expected"),
    ],
)
def test_what_is_neither_path_nor_pixels_is_refused_in_a_sentence(model, pictures, sentence):
    with pytest.raises(ValueError, match=sentence):
        model.predict(pictures)


def test_a_wrong_choice_is_refused_by_name(finished, model, files):
    bundle = finished / "data/models/candidate"
    with pytest.raises(ValueError, match="device is 'gpu', expected one of auto, cpu, cuda"):
        tasks.load(bundle, device="gpu")
    with pytest.raises(ValueError, match=r"batch_size is unknown, expected one of .*minibatch_size"):
        tasks.load(bundle, batch_size=4)
    with pytest.raises(ValueError, match="minibatch_size is 0, expected a whole number"):
        tasks.load(bundle, minibatch_size=0)
    with pytest.raises(ValueError, match="top_k is 0, expected at least 1"):
        model.predict(files, top_k=0)
