import numpy as np
import pytest

from tasks.files import read_json
from tasks.models.head import load_heads, save_heads

CLASSES = {"animal": ["cat", "dog"], "place": ["in", "out", "far"]}


@pytest.fixture
def layers():
    generator = np.random.default_rng(0)
    return {
        target: (
            generator.normal(size=(len(names), 4)).astype(np.float32),
            generator.normal(size=len(names)).astype(np.float32),
        )
        for target, names in CLASSES.items()
    }


def test_heads_of_all_targets_come_back(tmp_path, layers):
    save_heads(tmp_path, layers, classes=CLASSES, facts={"l2": {"animal": 0.1, "place": 1.0}})
    back, classes = load_heads(tmp_path)
    assert classes == CLASSES
    for target, (weight, bias) in layers.items():
        assert np.array_equal(back[target][0], weight)
        assert np.array_equal(back[target][1], bias)
    assert read_json(tmp_path / "head.json")["l2"] == {"animal": 0.1, "place": 1.0}


def test_torn_head_is_refused_by_name(tmp_path, layers):
    save_heads(tmp_path, layers, classes=CLASSES, facts={})
    path = tmp_path / "head.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{tmp_path} is not a whole head .*: run train_head again"):
        load_heads(tmp_path)


def test_head_without_weights_is_refused_by_name(tmp_path, layers):
    save_heads(tmp_path, layers, classes=CLASSES, facts={})
    (tmp_path / "head.safetensors").unlink()
    with pytest.raises(ValueError, match=f"{tmp_path} is not a whole head"):
        load_heads(tmp_path)


def test_target_without_a_layer_is_refused_by_name(tmp_path, layers):
    del layers["place"]
    save_heads(tmp_path, layers, classes=CLASSES, facts={})
    with pytest.raises(ValueError, match=r"is not a whole head .*place\.weight"):
        load_heads(tmp_path)
