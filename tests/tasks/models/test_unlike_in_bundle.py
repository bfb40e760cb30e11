"""What a bundle knows of samples unlike those that it was trained on, in memory and on disk."""

import json

import numpy as np
import pytest
import torch

from tasks.data.health.known import keep
from tasks.models.bundle import DESCRIPTION, load_bundle, save_bundle
from tasks.models.unlike import Unlike
from tasks.prediction.unlike import find_unlike
from tests.tasks.models.test_bundle import describe

CLASSES = {"animal": ["cat", "dog"]}


@pytest.fixture
def model(classifier):
    made = classifier(CLASSES)
    features = np.random.default_rng(0).exponential(size=(20, made.backbone.dim))
    made.unlike = Unlike.of(vars(keep(features)), limit=0.25, level=0.05)
    return made


def test_it_survives_a_bundle(model, tmp_path):
    save_bundle(tmp_path, model, lineage={})
    loaded, _ = load_bundle(tmp_path)
    assert loaded.unlike.level == 0.05
    assert loaded.unlike.limit.item() == 0.25
    assert torch.equal(loaded.unlike.references, model.unlike.references)
    vectors = np.random.default_rng(1).exponential(size=(3, model.backbone.dim)).astype(np.float16)
    vectors[1, : model.backbone.dim // 2] = 0
    assert find_unlike(loaded.unlike, vectors).tolist() == find_unlike(model.unlike, vectors).tolist()


def test_bundle_without_it_does_not_name_it(classifier, tmp_path):
    save_bundle(tmp_path, classifier(CLASSES), lineage={})
    assert "unlike" not in json.loads((tmp_path / DESCRIPTION).read_text("utf-8"))
    assert load_bundle(tmp_path)[0].unlike is None


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"num_references": 0}, "unlike.num_references"),
        ({"num_references": 10**9}, "unlike.num_references"),
        ({"num_components": 10**9}, "unlike.num_components"),
        ({"level": 1.0}, "unlike.level"),
        ({"num_references": 21}, "unlike.references"),
        ({"num_components": 6}, "unlike.basis"),
    ],
)
def test_description_that_a_stranger_changed_is_refused_by_name(model, tmp_path, own, message):
    save_bundle(tmp_path, model, lineage={})
    describe(tmp_path, unlike={"num_references": 20, "num_components": 5, "level": 0.05} | own)
    with pytest.raises(ValueError, match=message):
        load_bundle(tmp_path)
