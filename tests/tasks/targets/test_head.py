import numpy as np
import pytest

from tasks.machine.files import read_json
from tasks.targets.head import Factors, Head, WordLayer, load_heads, save_heads
from tasks.targets.kinds import facts_of

CLASSES = {"animal": ["cat", "dog"], "place": ["in", "out", "far"]}


@pytest.fixture
def heads():
    """One with a layer, one with two."""
    generator = np.random.default_rng(0)

    def layer(num_outputs, num_inputs):
        return generator.normal(size=(num_outputs, num_inputs)).astype(np.float32), np.ones(num_outputs, np.float32)

    return {
        "animal": Head(layers=(layer(2, 4),), temperature=1.5),
        "place": Head(layers=(layer(6, 4), layer(3, 6))),
    }


def test_heads_of_all_targets_come_back(tmp_path, heads):
    save_heads(tmp_path, heads, targets=CLASSES, facts={"l2": {"animal": 0.1, "place": 1.0}})
    back, classes = load_heads(tmp_path)
    assert facts_of(classes) == CLASSES
    vectors = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    for target, head in heads.items():
        assert np.array_equal(back[target].logits(vectors), head.logits(vectors))
        assert back[target].temperature == head.temperature
    assert read_json(tmp_path / "head.json")["l2"] == {"animal": 0.1, "place": 1.0}


def test_torn_head_is_refused_by_name(tmp_path, heads):
    save_heads(tmp_path, heads, targets=CLASSES, facts={})
    path = tmp_path / "head.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{tmp_path} is not a whole head .*: run train_head again"):
        load_heads(tmp_path)


def test_head_without_weights_is_refused_by_name(tmp_path, heads):
    save_heads(tmp_path, heads, targets=CLASSES, facts={})
    (tmp_path / "head.safetensors").unlink()
    with pytest.raises(ValueError, match=f"{tmp_path} is not a whole head"):
        load_heads(tmp_path)


def test_target_without_a_head_is_refused_by_name(tmp_path, heads):
    del heads["place"]
    save_heads(tmp_path, heads, targets=CLASSES, facts={})
    with pytest.raises(ValueError, match=r"is not a whole head .*place"):
        load_heads(tmp_path)


def test_hidden_layer_is_rectified():
    one = (np.array([[1.0], [-1.0]], np.float32), np.zeros(2, np.float32))
    other = (np.eye(2, dtype=np.float32), np.array([0.0, 1.0], np.float32))
    assert Head(layers=(one, other)).logits(np.array([[3.0], [-2.0]])).tolist() == [[3.0, 1.0], [0.0, 3.0]]


WORDS = WordLayer(
    layer=(np.arange(8, dtype=np.float32).reshape(2, 4), np.ones(2, np.float32)),
    factors=Factors(of_vector=0.5, of_words=2.0),
)
ROWS = [
    (np.array([0, 3]), np.array([0.6, 0.8], np.float32)),
    (np.empty(0, np.int64), np.empty(0, np.float32)),
    (np.array([1]), np.array([1.0], np.float32)),
]


def test_words_that_a_head_reads_come_back(tmp_path, heads):
    read = heads | {"animal": Head(layers=heads["animal"].layers, words=WORDS)}
    save_heads(tmp_path, read, targets=CLASSES, facts={})
    back, _ = load_heads(tmp_path)
    assert back["place"].words is None
    assert back["animal"].words.factors == WORDS.factors
    assert np.array_equal(back["animal"].words.logits(ROWS), WORDS.logits(ROWS))


def test_logits_of_words_are_added_to_those_of_vectors_and_depend_on_no_other_text():
    logits = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], np.float32)
    expected = [[0.5 + 2 * 3.4, 2 * (1 + 0.6 * 4 + 0.8 * 7)], [2.0, 0.5 + 2.0], [2 * 2.0, 2 * 6.0]]
    assert WORDS.join(logits, ROWS) == pytest.approx(np.array(expected), rel=1e-6)
    for number in range(3):
        alone = WORDS.join(logits[number : number + 1], ROWS[number : number + 1])
        assert np.array_equal(alone[0], WORDS.join(logits, ROWS)[number])
    assert WORDS.logits([]).shape == (0, 2)
