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
    assert model.embed(files).shape == (20, model.answerer.embedder.dim)


def test_what_is_no_picture_has_a_reason_and_no_vector(model, files, tmp_path):
    (tmp_path / "a.txt").write_text("no picture", "utf-8")
    assert model.predict([files[0], tmp_path / "a.txt"])["reason"].tolist()[1] == "not_an_image"
    with pytest.raises(ValueError, match=r"a\.txt is no picture \(not_an_image"):
        model.embed([files[0], tmp_path / "a.txt"])
    with pytest.raises(ValueError, match=r"an array is float64 \(8, 8\), expected uint8"):
        model.predict(np.zeros((8, 8)))
