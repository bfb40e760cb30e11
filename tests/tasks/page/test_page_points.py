import base64
import zlib

import numpy as np
import pandas as pd
import pytest

from tasks.page.points import NONE, points
from tasks.targets.classes import Classes
from tasks.targets.number import Number
from tasks.targets.several import Several


def unpacked(text, dtype="<u2"):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=dtype).tolist()


def texts(text):
    return zlib.decompress(base64.b64decode(text)).decode().split("\0")


@pytest.fixture
def samples():
    return pd.DataFrame({"sample_id": ["s", "t", "u"], "batch": ["b", "a", "b"], "path": ["1", "2\n", "ü/3"]})


@pytest.fixture
def predictions():
    """Return predictions of s and u; t has no label."""
    answers = {"label": ["x", "y"], "candidate": ["x", "x"], "candidate_confidence": [1.0, 0.2]}
    return pd.DataFrame({"sample_id": ["u", "s"], "target": "label"} | answers)


LABEL = {"label": Classes(("x", "y"))}
PLACES = np.array([[0, 65535], [1, 2], [3, 4]], dtype=np.uint16)


def test_each_sample_keeps_its_place_its_prediction_and_its_path(samples, predictions):
    packed = points(samples, PLACES, predictions, targets=LABEL, previews={"u": 7, "of another": 8})
    assert (unpacked(packed["x"]), unpacked(packed["y"])) == ([0, 1, 3], [65535, 2, 4])
    assert [packed["batches"][number] for number in unpacked(packed["batch"])] == ["b", "a", "b"]
    assert texts(packed["paths"]) == ["1", "2\n", "ü/3"]
    assert packed["previews"] == {"2": 7}
    [target] = packed["targets"]
    assert target["names"] == ["x", "y"]
    assert unpacked(target["label"]) == [1, NONE, 0]
    assert unpacked(target["candidate"]) == [0, NONE, 0]
    assert unpacked(target["confidence"], "u1") == [51, 0, 255]
    assert "baseline" not in target


def test_paths_of_wrong_predictions_are_kept_if_not_all_fit(predictions):
    rng = np.random.default_rng(0)
    paths = [rng.bytes(50).hex() for _ in range(100)]
    many = pd.DataFrame({"sample_id": [str(number) for number in range(100)], "batch": "a", "path": paths})
    wrong = predictions.head(1).assign(sample_id="99", label="y")
    packed = points(many, np.zeros((100, 2), np.uint16), wrong, targets=LABEL, previews={}, max_path_bytes=3000)
    kept = [number for number, path in enumerate(texts(packed["paths"])) if path]
    assert len(packed["paths"]) <= 3000
    assert len(kept) == packed["num_paths"] > 10
    assert kept == [*range(len(kept) - 1), 99]


def test_paths_that_do_not_fit_at_all_are_left_out(samples, predictions):
    packed = points(samples, PLACES, predictions, targets=LABEL, previews={}, max_path_bytes=1)
    assert texts(packed["paths"]) == ["", "", ""]


def judged(**own):
    """Return two answers of s and u, of which the model in use had the first wrong and the second right."""
    sides = {"candidate_is_right": [True, False], "baseline_is_right": [False, True], "candidate_error": [0.0, 1.0]}
    return pd.DataFrame({"sample_id": ["s", "u"], "target": "label"} | own | sides)


def test_number_has_ranges_as_its_classes_and_its_answers_in_words(samples):
    own = {
        "label": ["0.0", "80.0"],
        "label_value": [0.0, 80.0],
        "candidate": ["0.5", "12.25"],
        "baseline": ["9.0", "80.0"],
    }
    packed = points(samples, PLACES, judged(**own), targets={"label": Number(measure="kg")}, previews={})
    [target] = packed["targets"]
    assert target["names"][0] == "0 to 10 kg"
    assert unpacked(target["label"]) == [0, NONE, 7]
    assert unpacked(target["outcome"], "u1")[::2] == [1, 3]  # gained, lost
    assert texts(target["words"]["candidate"]) == ["0.5 kg", "", "12.25 kg"]


def test_several_labels_have_no_classes_and_are_named_together(samples):
    own = {"label": ['["a","b"]', "[]"], "candidate": ['["a","b"]', '["b"]'], "baseline": ["[]", "[]"]}
    packed = points(samples, PLACES, judged(**own), targets={"label": Several(("a", "b"))}, previews={})
    [target] = packed["targets"]
    assert target["names"] == []
    assert texts(target["words"]["label"]) == ["a, b", "", "none of the labels"]
