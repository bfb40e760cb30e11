"""A text classifier on disk: a bundle with its tokenizer, whose answers are those of the model that was saved."""

import json

import numpy as np
import pytest
import torch

from tasks.models.bundle import load_bundle, save_bundle
from tasks.models.classifier import Classifier
from tasks.models.description import with_digest
from tasks.models.words import Words
from tasks.prediction.answers import Answerer
from tasks.targets.head import Factors, WordLayer
from tasks.text.words import fit_vocabulary, terms_of
from tests.kit.adapted import adapted
from tests.tasks.models.test_encoder import TEXTS, encoder

pytest.importorskip("transformers", reason="needs the extra [text]: pip install -e '.[text]'")


@pytest.fixture
def model():
    torch.manual_seed(1)
    return Classifier(encoder("bert"), {"topic": ["sport", "world", "trade"]}, temperatures={"topic": 0.1}).eval()


def words(*, of_vector=0.5):
    vocabulary = fit_vocabulary([terms_of(text) for text in TEXTS])
    weight = np.random.default_rng(0).normal(size=(3, len(vocabulary))).astype(np.float32)
    layer = WordLayer(layer=(weight, np.ones(3, np.float32)), factors=Factors(of_vector=of_vector, of_words=0.5))
    return Words.of(vocabulary, {"topic": layer})


@pytest.fixture
def bundle(model, tmp_path):
    save_bundle(tmp_path, model, lineage={"fingerprint": model.backbone.fingerprint()})
    return tmp_path


def answers(model, texts):
    answerer = Answerer(model, device="cpu")
    prepared, words = [answerer.transform.prepare(text) for text in texts], [answerer.words(text) for text in texts]
    return answerer.answer(prepared, words)["topic"]


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
        ({"config": {"model_type": "evil"}}, "'evil', expected an encoder of texts"),
        ({"pooling": "secret"}, "encoder.pooling"),
        ({"max_tokens": 10**9}, "encoder.max_tokens"),
    ],
)
def test_description_that_a_stranger_changed_is_refused_before_a_network_is_built(bundle, changes, message):
    change(bundle, **changes)
    with pytest.raises(ValueError, match=message):
        load_bundle(bundle)


# words


@pytest.fixture
def reading(model, tmp_path):
    """A bundle that reads words."""
    model.words = words()
    (tmp_path / "reading").mkdir()
    save_bundle(tmp_path / "reading", model, lineage={"fingerprint": model.backbone.fingerprint()})
    return tmp_path / "reading"


def test_bundle_that_reads_words_answers_as_the_model_that_was_saved(model, reading):
    loaded, lineage = load_bundle(reading)
    assert loaded.backbone.fingerprint() == lineage["fingerprint"]  # its vectors are those of a bundle without words
    expected = answers(model, TEXTS)
    np.testing.assert_array_equal(answers(loaded, TEXTS), expected)
    np.testing.assert_array_equal(answers(loaded, TEXTS[::-1])[::-1], expected)
    model.words = None
    assert not np.allclose(answers(model, TEXTS), expected)


def test_words_count_as_their_factors_say(model):
    from_vectors = np.log(answers(model, TEXTS)) * model.temperatures["topic"]
    model.words = words(of_vector=0.25)
    vocabulary, layer = model.words.vocabulary(), model.words.layers()["topic"]
    logits = 0.25 * from_vectors + 0.5 * layer.logits([vocabulary.row(text) for text in TEXTS])
    powers = np.exp(logits / model.temperatures["topic"])
    np.testing.assert_allclose(answers(model, TEXTS), powers / powers.sum(axis=1, keepdims=True), atol=1e-5)


def test_sample_without_its_words_is_not_answered(model):
    model.words = words()
    answerer = Answerer(model, device="cpu")
    with pytest.raises(AssertionError, match="needs the words of every sample"):
        answerer.answer([answerer.transform.prepare(text) for text in TEXTS])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_terms": 10**12}, "words.num_terms"),
        ({"num_terms": 5}, "another shape|have the shape|shape"),
        ({"factors": {"topic": {"of_vector": -1.0, "of_words": 1.0}}}, "words.factors.topic.of_vector"),
        ({"factors": {"topic": {"of_vector": 1.0, "of_words": 1e30}}}, "words.factors.topic.of_words"),
        ({"factors": {"other": {"of_vector": 1.0, "of_words": 1.0}}}, "a target that classes lack"),
        (None, "words"),
    ],
)
def test_words_that_a_stranger_changed_are_refused(reading, fields, message):
    description = json.loads((reading / "model.json").read_text())
    description["words"] = None if fields is None else description["words"] | fields
    (reading / "model.json").write_text(json.dumps(with_digest(description)))
    with pytest.raises(ValueError, match=message):
        load_bundle(reading)


def test_vocabulary_out_of_order_is_refused(model, tmp_path):
    model.words = words()
    model.words.hashes.copy_(model.words.hashes.flip(0))
    save_bundle(tmp_path, model, lineage={})
    with pytest.raises(ValueError, match="hashes of its words are not in ascending order"):
        load_bundle(tmp_path)


# domains


def test_head_of_a_domain_reads_no_words_and_the_others_still_do(model, tmp_path):
    both = Classifier(model.backbone, {"tone": ["calm", "loud"], "topic": ["sport", "world", "trade"]}).eval()
    layer = words().layers()["topic"]
    tone = WordLayer(layer=(layer.layer[0][:2], layer.layer[1][:2]), factors=layer.factors)
    both.words = Words.of(words().vocabulary(), {"tone": tone, "topic": layer})
    adapted(both, {"forum": ["topic"], "mail": ["tone", "topic"]})
    save_bundle(tmp_path, both, lineage={})
    loaded, _ = load_bundle(tmp_path)
    general = Answerer(loaded, device="cpu")
    prepared, rows = ([work(text) for text in TEXTS] for work in (general.transform.prepare, general.words))
    before = general.answer(prepared, rows)
    forum, mail = general.of_domain("forum"), general.of_domain("mail")
    own = forum.answer(prepared, [forum.words(text) for text in TEXTS])
    np.testing.assert_array_equal(own["tone"], before["tone"])
    [vectors] = general.vectors(general.transform.stack(prepared))
    logits = loaded.domains.of_domain("forum")["topic"](vectors.float()).double()
    np.testing.assert_allclose(own["topic"], logits.softmax(dim=1).detach().numpy(), atol=1e-5)
    assert mail.vocabulary is None
    assert not np.allclose(mail.answer(prepared)["tone"], before["tone"])
    np.testing.assert_array_equal(mail.answer(prepared, rows)["tone"], mail.answer(prepared)["tone"])
