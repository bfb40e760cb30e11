"""What the gate judged is what answers: evaluate, predict and an export give the same."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from tasks.data.samples.samples import sample_id
from tasks.evaluate import parts_of
from tasks.images.decode import decode_sample
from tasks.metrics.projection import project
from tasks.models.bundle import load_bundle
from tasks.models.classifier import Classifier
from tasks.predict import predict
from tasks.prediction.answers import Answerer
from tasks.prediction.export import FORMATS, MOST_DIFFERENCE, export
from tasks.prediction.heldout import ask


@pytest.fixture(scope="module")
def judged(finished):
    """The candidate of a finished project, what evaluate says of it, and the held-out files."""
    table = pd.read_parquet(finished / "data/evaluation/predictions.parquet")
    files = [finished / "data/raw" / batch / path for batch, path in zip(table["batch"], table["path"], strict=True)]
    return finished / "data/models/candidate", table, files


def test_predict_gives_what_evaluate_judged_to_the_last_bit(judged, tmp_path):
    bundle, table, files = judged
    predict(bundle, files[::-1], out=tmp_path / "out.parquet", device="cpu")
    answers = pd.read_parquet(tmp_path / "out.parquet")[::-1].reset_index(drop=True)
    assert answers["label"].tolist() == table["candidate"].tolist()
    assert answers["probability"].tolist() == table["candidate_confidence"].tolist()


@pytest.mark.parametrize("format", FORMATS)
def test_exported_file_gives_what_evaluate_judged(judged, tmp_path, format):
    bundle, table, files = judged
    model, _ = load_bundle(bundle)
    path = tmp_path / "model"
    export(model, path, format=format)
    transform = model.backbone.transform
    images = [decode_sample(file.read_bytes(), shorter_side=transform.shorter_side) for file in files]
    pixels = torch.stack([transform.prepare(image) for image in images])
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        [probabilities] = session.run(None, {"pixels": pixels.numpy()})
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is no longer developed
            probabilities = torch.jit.load(str(path))(pixels)[0].numpy()
    columns = [model.targets["label"].names.index(label) for label in table["label"]]
    of_label = probabilities[np.arange(len(table)), columns]
    assert np.abs(of_label - table["candidate_label_probability"].to_numpy()).max() <= MOST_DIFFERENCE


def test_map_of_the_page_is_drawn_from_the_features_that_the_candidate_answers_from(judged, finished):
    bundle, table, files = judged
    model, _ = load_bundle(bundle)
    answerer = Answerer(model, device="cpu")
    transform = answerer.transform
    images = [decode_sample(file.read_bytes(), shorter_side=transform.shorter_side) for file in files]
    pixels = torch.stack([transform.prepare(image) for image in images])
    size = answerer.embedder.plan.minibatch_size
    features = torch.cat([answerer.vectors(part) for part in torch.split(pixels, size)]).numpy()
    places = load_file(finished / "data/evaluation/places.safetensors")["places"]
    assert len(places) == len(table)
    assert np.array_equal(places, project(features))


DECODED = []  # the contents that were decoded


def counting_decode(content, *, shorter_side):
    DECODED.append(content)
    return decode_sample(content, shorter_side=shorter_side)


@pytest.fixture
def asked(tmp_path, batch, classifier):
    """Ask models for their answers to the first rows of a batch; returns these and how often a sample was decoded."""
    paths = sorted(str(path.relative_to(batch)) for path in batch.rglob("*.png"))
    ids = [sample_id((batch / path).read_bytes()) for path in paths]
    rows = pd.DataFrame({"batch": batch.name, "path": paths, "sample_id": ids})

    def run(models, num_rows, alterations=()):
        DECODED.clear()
        parts = replace(parts_of("images", []), decode=counting_decode)
        answerers = {name: Answerer(model, device="cpu") for name, model in models.items()}
        found = ask(
            answerers,
            rows[:num_rows],
            raw=batch.parent,
            store=tmp_path / "store",
            parts=parts,
            alterations=alterations,
        )
        return found, len(DECODED)

    return run


def test_each_sample_is_decoded_once_for_all_models_and_alterations(asked, classifier):
    models = {"candidate": classifier(seed=0), "baseline": classifier(seed=1)}
    answers, num_decoded = asked(models, 6, ["flipped", "shifted"])
    assert num_decoded == 6
    assert set(answers.altered) == {"flipped", "shifted"}
    assert not np.array_equal(answers.models["candidate"]["label"], answers.models["baseline"]["label"])


def test_model_in_use_costs_new_samples_only(asked, classifier):
    models = {"candidate": classifier()}
    few, _ = asked(models, 4)
    more, num_decoded = asked(models, 6)
    assert num_decoded == 2
    assert np.array_equal(more.models["candidate"]["label"][:4], few.models["candidate"]["label"])
    assert asked(models, 6)[1] == 0


def test_models_that_share_a_backbone_share_its_vectors(asked, classifier):
    backbone = classifier().backbone
    asked({"candidate": Classifier(backbone, {"label": ["cat", "dog"]})}, 6)
    assert asked({"candidate": Classifier(backbone, {"place": ["in", "out"]})}, 6)[1] == 0
