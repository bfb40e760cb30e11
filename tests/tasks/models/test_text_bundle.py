"""A text classifier on disk: a bundle with its tokenizer, whose answers are those of the model that was saved."""

import json

import numpy as np
import pytest
import torch

from tasks.models.bundle import load_bundle, save_bundle
from tasks.models.classifier import Classifier
from tasks.models.description import with_digest
from tasks.prediction.answers import Answerer
from tests.tasks.models.test_encoder import TEXTS, encoder

pytest.importorskip("transformers", reason="needs the extra [text]: pip install -e '.[text]'")


@pytest.fixture
def model():
    torch.manual_seed(1)
    return Classifier(encoder("bert"), {"topic": ["sport", "world", "trade"]}, temperatures={"topic": 0.1}).eval()


@pytest.fixture
def bundle(model, tmp_path):
    save_bundle(tmp_path, model, lineage={"fingerprint": model.backbone.fingerprint()})
    return tmp_path


def answers(model, texts):
    answerer = Answerer(model, device="cpu")
    return answerer.answer([answerer.transform.prepare(text) for text in texts])["topic"]


def change(bundle, **changes):
    description = json.loads((bundle / "model.json").read_text())
    description["encoder"] |= changes
    (bundle / "model.json").write_text(json.dumps(with_digest(description)))


def test_bundle_answers_as_the_model_that_was_saved(model, bundle):
    loaded, lineage = load_bundle(bundle)
    assert loaded.backbone.fingerprint() == lineage["fingerprint"]
    expected = answers(model, TEXTS)
    np.testing.assert_array_equal(answers(loaded, TEXTS), expected)
    np.testing.assert_array_equal(answers(loaded, TEXTS[::-1])[::-1], expected)  # whatever the neighbours


def test_answers_change_with_the_text(model):
    probabilities = answers(model, TEXTS)
    assert len(np.unique(probabilities.round(6), axis=0)) == len(TEXTS)


def test_bundle_needs_its_own_tokenizer(bundle):
    content = (bundle / "tokenizer.json").read_bytes()
    (bundle / "tokenizer.json").write_bytes(content.replace(b"[UNK]", b"[unk]"))
    with pytest.raises(ValueError, match=r"tokenizer\.json has SHA-256 \w{12}, expected"):
        load_bundle(bundle)
    (bundle / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"tokenizer\.json is missing"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {"model_type": "bert", "num_hidden_layers": 10**6}}, "num_hidden_layers 1000000"),
        ({"config": {"model_type": "bert", "vocab_size": 10**6, "hidden_size": 8184}}, "do not fit|another shape|lack"),
        ({"config": {"model_type": "evil"}}, "builds no 'evil'"),
        ({"pooling": "secret"}, "encoder.pooling"),
        ({"max_tokens": 10**9}, "encoder.max_tokens"),
    ],
)
def test_description_that_a_stranger_changed_is_refused_before_a_network_is_built(bundle, changes, message):
    change(bundle, **changes)
    with pytest.raises(ValueError, match=message):
        load_bundle(bundle)
