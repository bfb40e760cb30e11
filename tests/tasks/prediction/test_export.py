"""A bundle as one file that other programs run."""

import json
import resource
import sys

import numpy as np
import pytest
import torch

from tasks.models.classifier import Classifier
from tasks.models.weights import load_backbone
from tasks.prediction.answers import Answerer
from tasks.prediction.export import FORMATS, METADATA, MOST_DIFFERENCE, export
from tasks.targets.kinds import facts_of
from tasks.targets.number import Number
from tests.kit.four_targets import four_targets, untrained
from tests.kit.plain import plain_probabilities
from tests.kit.programs import run

CLASSES = {"animal": ["cat", "dog", "eel"], "place of it": ["in", "out"]}


def build(architecture="squeezenet1_1", features="penultimate", classes=CLASSES, views=None, **options):
    torch.manual_seed(0)
    backbone = load_backbone(architecture, weights="random", features=features, image_size=64, **views or {})
    model = Classifier(backbone, classes, temperatures={"animal": 0.25}, **options).eval()
    with torch.no_grad():  # makes the probabilities very unequal, so that an error shows
        for head in model.heads:
            for parameter in head.parameters():
                parameter.mul_(20)
    return model


def noise(n):
    return np.random.default_rng(n).integers(0, 256, (n, 3, 64, 64), dtype=np.uint8)


def test_onnx_gives_the_calibrated_probabilities_of_the_bundle_for_any_number_of_images(tmp_path):
    import onnxruntime

    model = build("shufflenet_v2_x0_5", features=["stage2", "conv5"], hidden_features=8)
    assert export(model, tmp_path / "model.onnx", format="onnx") <= MOST_DIFFERENCE
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == list(CLASSES)
    for n in (1, 5):
        outputs = session.run(None, {"pixels": noise(n)})
        for output, expected in zip(outputs, plain_probabilities(model, [torch.from_numpy(noise(n))]), strict=True):
            assert np.abs(output - expected.numpy()).max() <= MOST_DIFFERENCE
            assert expected.max() > 0.5
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == CLASSES
    assert json.loads(metadata["transform"])["crop_size"] == 64


def test_torchscript_needs_only_torch(tmp_path):
    model = build()
    assert export(model, tmp_path / "model.pt", format="torch") <= MOST_DIFFERENCE
    np.save(tmp_path / "pixels.npy", noise(4))
    code = (
        "import sys, json, numpy, torch\n"
        "place = sys.argv[1]\n"
        f"files = {{{METADATA!r}: ''}}\n"
        "model = torch.jit.load(f'{place}/model.pt', _extra_files=files)\n"
        "numpy.savez(f'{place}/outputs.npz', *model(torch.from_numpy(numpy.load(f'{place}/pixels.npy'))))\n"
        f"print(json.loads(json.loads(files[{METADATA!r}])['classes']))\n"
        "assert 'torchvision' not in sys.modules"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    done = run(*command, cwd=tmp_path, env={"OMP_NUM_THREADS": "1"})
    assert done.stdout.strip() == str(CLASSES)
    with np.load(tmp_path / "outputs.npz") as outputs:
        for name, expected in zip(outputs.files, plain_probabilities(model, [torch.from_numpy(noise(4))]), strict=True):
            assert np.abs(outputs[name] - expected.numpy()).max() <= MOST_DIFFERENCE


def test_exported_file_looks_at_each_resolution_and_mirror_image(tmp_path):
    model = build(views={"flip": True, "resolutions": [40]})
    assert export(model, tmp_path / "model.onnx", format="onnx") <= MOST_DIFFERENCE


def test_export_that_fails_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.prediction.export.MOST_DIFFERENCE", -1.0)
    with pytest.raises(ValueError, match=r"exported as torch differs by .*: use the other format"):
        export(build(), tmp_path / "model.pt", format="torch")
    assert list(tmp_path.iterdir()) == []


def test_error_about_a_missing_package_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.machine.extras.find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(ValueError, match=r"export needs onnxscript, which is not installed: run .*'\.\[export\]'` in"):
        export(build(), tmp_path / "model.onnx", format="onnx")


def test_target_with_the_name_of_the_input_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="a target has the name pixels, which is the name"):
        export(build(classes={"animal": ["cat", "dog"], "pixels": ["in", "out"]}), tmp_path / "model", format="onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_targets_of_every_kind_are_answered_as_the_bundle_answers_them(tmp_path, format):
    # a small scale beside a large centre; parts of the network have these names, too
    time = Number(measure="s", centre=1.7e9, scale=20.0, interval=(-30.0, 40.0), tolerance=5.0)
    backbone = load_backbone("squeezenet1_1", weights="random", image_size=64)
    model = untrained(backbone, four_targets(scale=time, linear=Number(centre=0.5, scale=1e-3)), spread=5)
    assert export(model, tmp_path / "model", format=format) <= MOST_DIFFERENCE
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(tmp_path / "model"), providers=["CPUExecutionProvider"])
        assert [output.name for output in session.get_outputs()] == list(model.targets)
        outputs, facts = session.run(None, {"pixels": noise(5)}), session.get_modelmeta().custom_metadata_map
    else:
        files = {METADATA: ""}
        with pytest.warns(FutureWarning, match="deprecated"):
            loaded = torch.jit.load(tmp_path / "model", _extra_files=files)
        outputs = [output.numpy() for output in loaded(torch.from_numpy(noise(5)))]
        facts = json.loads(files[METADATA])
    answers = Answerer(model, device="cpu").answer(torch.from_numpy(noise(5)))
    for (name, target), output in zip(model.targets.items(), outputs, strict=True):
        is_number = isinstance(target, Number)
        assert output.dtype == (np.float64 if is_number else np.float32)
        np.testing.assert_allclose(
            output, answers[name], rtol=0, atol=MOST_DIFFERENCE * (target.scale if is_number else 1)
        )
        assert len(set(target.shown(answers[name]))) > 1 or not is_number
    assert json.loads(facts["classes"]) == facts_of(model.targets)
    assert json.loads(facts["columns"]) == {name: ["value", "low", "high"] for name in ("linear", "scale", "value")}


def test_full_disk_is_an_error_and_leaves_no_file(tmp_path):
    model = build()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            export(model, tmp_path / "model.pt", format="torch")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_backbone_has_nothing_to_export(tmp_path, format):
    with pytest.raises(ValueError, match="a backbone has no targets"):
        export(Classifier(build().backbone, {}), tmp_path / "model", format=format)


@pytest.mark.parametrize("format", FORMATS)
def test_targets_of_several_trunks_are_exported_each_with_its_own(tmp_path, format):
    model, other = build(), build(features=["features.12"])
    with torch.no_grad():
        for parameter in other.backbone.parameters():
            parameter.mul_(1.1)
    model.plant([other.backbone], {"place of it": 1})
    assert export(model, tmp_path / "model", format=format) <= MOST_DIFFERENCE
