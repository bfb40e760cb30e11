"""A text classifier as one file that other programs run, with the tokenizer that they need beside it."""

import json
import math
import re
import unicodedata
from collections import Counter
from dataclasses import replace
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import pytest
import torch

from tasks.models.classifier import Classifier
from tasks.models.words import Words
from tasks.prediction.answers import Answerer
from tasks.prediction.export import METADATA, MOST_DIFFERENCE, export
from tasks.targets.head import Factors, WordLayer
from tasks.text.words import fit_vocabulary, terms_of
from tests.tasks.models.test_encoder import TEXTS, encoder

pytest.importorskip("transformers", reason="needs the extra [text]: pip install -e '.[text]'")
tokenizers = pytest.importorskip("tokenizers", reason="needs the extra [text]: pip install -e '.[text]'")

CLASSES = {"topic": ["sport", "world", "trade"], "tone": ["calm", "loud"]}


def build(kind="bert", *, pooling="mean", **changed):
    torch.manual_seed(1)
    backbone = encoder(kind, pooling=pooling)
    backbone.transform = replace(backbone.transform, **changed)
    model = Classifier(backbone, CLASSES, temperatures={"topic": 0.2}).eval()
    with torch.no_grad():  # makes the probabilities very unequal, so that an error shows
        for head in model.heads:
            head.weight.mul_(10)
    return model


def expected(model, texts):
    answerer = Answerer(model, device="cpu")
    prepared, words = ([work(text) for text in texts] for work in (answerer.transform.prepare, answerer.words))
    return list(answerer.answer(prepared, words).values())


def rows(folder, texts):
    """Return the token ids and the mask that a program makes with the file beside the export."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    encoded = tokenizer.encode_batch(texts)
    return np.array([row.ids for row in encoded]), np.array([row.attention_mask for row in encoded])


def counted(folder, text):
    """Return the words of a text as a program counts them, with the file beside the export."""
    facts = json.loads((folder / "words.json").read_text("utf-8"))
    found = re.findall(facts["word"], unicodedata.normalize("NFKC", text).casefold())
    counts = Counter(
        blake2b(term.encode(), digest_size=8).hexdigest() for term in [*found, *map(" ".join, pairwise(found))]
    )
    row = np.array([(1 + math.log(counts[term])) * idf if term in counts else 0 for term, idf in facts["idf"].items()])
    return row / (np.linalg.norm(row) or 1)


def words_of(texts, classes):
    """Return the part of a classifier that reads words, with random weights."""
    vocabulary = fit_vocabulary([terms_of(text) for text in texts])
    draws = np.random.default_rng(0)
    layers = {
        target: WordLayer(
            layer=tuple(
                draws.normal(size=size).astype(np.float32) for size in ((len(names), len(vocabulary)), len(names))
            ),
            factors=Factors(of_vector=0.4, of_words=0.6),
        )
        for target, names in classes.items()
    }
    return Words.of(vocabulary, layers)


@pytest.mark.parametrize(
    ("kind", "pooling"), [("bert", "mean"), ("roberta", "cls"), ("modernbert", "max"), ("deberta-v2", "mean")]
)
def test_onnx_answers_as_the_bundle_for_any_texts(tmp_path, kind, pooling):
    import onnxruntime

    model = build(kind, pooling=pooling)
    assert export(model, tmp_path / "model.onnx", format="onnx") <= MOST_DIFFERENCE
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    texts = [*TEXTS, "a [SEP] b", "j " * 40]  # a special token that stays text, and a text that is cut
    for some in (texts, texts[:1]):
        ids, mask = rows(tmp_path, some)
        outputs = session.run(None, {"input_ids": ids, "attention_mask": mask})
        for output, probabilities in zip(outputs, expected(model, some), strict=True):
            assert np.abs(output - probabilities).max() <= MOST_DIFFERENCE
            assert probabilities.max() > 0.5
    assert [output.name for output in session.get_outputs()] == list(CLASSES)
    facts = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    assert facts["classes"] == CLASSES
    assert facts["transform"] == {"long": "head", "max_tokens": 16}
    assert facts["pooling"] == pooling
    assert facts["tokenizer"]["file"] == "tokenizer.json"


def test_file_of_a_classifier_that_reads_words_takes_them_too(tmp_path):
    import onnxruntime

    model = build()
    model.words = words_of(TEXTS, CLASSES)
    assert export(model, tmp_path / "model.onnx", format="onnx") <= MOST_DIFFERENCE
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    ids, mask = rows(tmp_path, TEXTS)
    words = np.array([counted(tmp_path, text) for text in TEXTS], dtype=np.float32)
    outputs = session.run(None, {"input_ids": ids, "attention_mask": mask, "words": words})
    for output, probabilities in zip(outputs, expected(model, TEXTS), strict=True):
        assert np.abs(output - probabilities).max() <= MOST_DIFFERENCE


def test_torchscript_answers_as_the_bundle(tmp_path):
    model = build("mpnet")
    assert export(model, tmp_path / "model.pt", format="torch") <= MOST_DIFFERENCE
    files = {METADATA: ""}
    with pytest.warns(FutureWarning, match="deprecated"):
        loaded = torch.jit.load(tmp_path / "model.pt", _extra_files=files)
    outputs = loaded(*map(torch.from_numpy, rows(tmp_path, TEXTS)))
    for output, probabilities in zip(outputs, expected(model, TEXTS), strict=True):
        assert np.abs(output.numpy() - probabilities).max() <= MOST_DIFFERENCE
    assert json.loads(json.loads(files[METADATA])["classes"]) == CLASSES


def test_text_of_several_windows_cannot_be_exported(tmp_path):
    with pytest.raises(ValueError, match=r"in several windows.* train with backbone\.long: head"):
        export(build(long="windows"), tmp_path / "model.pt", format="torch")
    assert list(tmp_path.iterdir()) == []


def test_program_that_cuts_a_text_itself_gets_a_tokenizer_that_does_not(tmp_path):
    export(build(long="head_tail"), tmp_path / "model.pt", format="torch")
    ids, _ = rows(tmp_path, ["a " * 40])
    assert ids.shape == (1, 42)


def test_tokenizer_of_another_model_is_not_replaced(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json is there already and of another model"):
        export(build(), tmp_path / "model.pt", format="torch")
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]
    assert (tmp_path / "tokenizer.json").read_text() == "{}"


def test_second_export_shares_the_tokenizer(tmp_path):
    for name in ("one.pt", "two.pt"):
        export(build(), tmp_path / name, format="torch")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.pt", "tokenizer.json", "two.pt"]


def test_target_without_words_and_with_a_trunk_of_its_own_is_exported_beside_one_that_reads_words(tmp_path):
    model, other = build(), encoder("bert")
    model.words = words_of(TEXTS, {"topic": CLASSES["topic"]})
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    model.plant([other], {"tone": 1})
    assert export(model, tmp_path / "model.pt", format="torch") <= MOST_DIFFERENCE
