import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks.models.bundle import DESCRIPTION, WEIGHTS, load_bundle, save_bundle
from tasks.models.classifier import Classifier
from tasks.models.weights import load_backbone

PIXELS = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def saved(classifier, tmp_path):
    """The folder of a bundle."""
    save_bundle(tmp_path, classifier(), lineage={"fingerprint": "f"})
    return tmp_path


def describe(folder, **changes):
    """Tamper with the description; None takes a key out."""
    path = folder / DESCRIPTION
    content = json.loads(path.read_text("utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), "utf-8")


def test_bundle_gives_identical_probabilities(classifier, tmp_path):
    model = classifier({"animal": ["cat", "dog"], "place": ["in", "out", "far"]})
    save_bundle(tmp_path, model, lineage={"seed": 3})
    back, lineage = load_bundle(tmp_path)
    assert lineage == {"seed": 3}
    assert back.classes == model.classes
    assert back.backbone.transform == model.backbone.transform
    assert back.backbone.fingerprint() == model.backbone.fingerprint()
    for one, other in zip(model.probabilities([PIXELS]), back.probabilities([PIXELS]), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "architecture",
    [
        "mnasnet0_5",
        "swin_t",
        "squeezenet1_1",
        "regnet_x_400mf",
    ],
)
def test_backbone_of_any_family_survives_a_bundle(tmp_path, architecture):
    backbone = load_backbone(architecture, weights="random", image_size=64)
    save_bundle(tmp_path, Classifier(backbone, {}), lineage={})
    assert load_bundle(tmp_path)[0].backbone.fingerprint() == backbone.fingerprint()


def test_equal_models_are_equal_bytes(classifier, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        save_bundle(tmp_path / name, classifier(), lineage={})
    for file in (WEIGHTS, DESCRIPTION):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_torn_weights_are_refused_by_name(saved, kept):
    path = saved / WEIGHTS
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=f"{saved} is not a whole bundle"):
        load_bundle(saved)


def test_torn_description_is_refused_by_name(saved):
    path = saved / DESCRIPTION
    path.write_text(path.read_text("utf-8")[:-20], "utf-8")
    with pytest.raises(ValueError, match=r"model\.json is not JSON"):
        load_bundle(saved)


def test_missing_description_is_named(saved):
    (saved / DESCRIPTION).unlink()
    with pytest.raises(ValueError, match=r"model\.json is missing: run the stage that makes it, or `dvc pull`"):
        load_bundle(saved)


def test_missing_weights_are_named(saved):
    (saved / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=rf"{saved} is not a whole bundle \(.*model\.safetensors"):
        load_bundle(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": {"label": ["cat", "dog"]}},
        {"classes": None},
        {"architecture": "shufflenet_v2_x1_0"},
        {"architecture": None},
        {"transform": None},
        {"transform": {"crop_size": 32}},
        {"transform": [32]},
        {"lineage": None},
    ],
)
def test_description_that_does_not_fit_the_weights_is_refused_by_name(saved, changes):
    describe(saved, **changes)
    with pytest.raises(ValueError, match=f"{saved} is not a whole bundle") as refused:
        load_bundle(saved)
    assert "\n" not in str(refused.value)


def test_tensor_of_another_shape_is_refused_by_name(saved):
    tensors = load_file(saved / WEIGHTS)
    save_file(tensors | {"heads.0.bias": torch.zeros(5)}, saved / WEIGHTS)
    with pytest.raises(ValueError, match=r"is not a whole bundle \(.*heads\.0\.bias"):
        load_bundle(saved)


def test_hidden_layer_and_temperature_survive_a_bundle(classifier, tmp_path):
    model = Classifier(
        classifier().backbone, {"label": ["a", "b"]}, hidden_features=8, temperatures={"label": 2.5}
    ).eval()
    save_bundle(tmp_path, model, lineage={})
    back, _ = load_bundle(tmp_path)
    assert (back.hidden_features, back.temperatures) == (8, {"label": 2.5})
    assert torch.equal(model.probabilities([PIXELS])[0], back.probabilities([PIXELS])[0])


def test_bundle_of_before_there_were_temperatures_loads(saved):
    describe(saved, hidden_features=None, temperatures=None)
    back, _ = load_bundle(saved)
    assert (back.hidden_features, back.temperatures) == (None, {"label": 1.0})
