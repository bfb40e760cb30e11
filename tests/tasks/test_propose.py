"""What is proposed for a batch, and what is not."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pictures(workspace, picture):
    """A folder of class folders with pictures of a side; the pictures of the fixture have colours."""

    def make(side, *, mode="RGB"):
        for number in range(12):
            file = workspace / "batch" / "ab"[number % 2] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture(number, width=side, height=side + 5).convert(mode).save(file)
        (workspace / "backbones").mkdir(exist_ok=True)
        return workspace / "batch"

    return make


@pytest.fixture
def propose(workspace, shell):
    """What the verb prints about a batch: the preset, and values by key."""

    def run(batch, **environment):
        done = shell("propose", "--raw", batch, "--backbones", workspace / "backbones", environment=environment)
        if done.status:
            return done.error, {}
        proposal = json.loads(done.stdout)
        return proposal["preset"], {change["key"]: change["value"] for change in proposal["changes"]}

    return run


def test_colour_gets_an_imagenet_network_whose_input_is_near_the_size_of_the_pictures(workspace, pictures, propose):
    batch = pictures(64)
    (workspace / "backbones/squeezenet1_1-imagenet.safetensors").touch()
    preset, values = propose(batch)
    assert preset == "photographs"
    assert values == {
        "preset": "photographs",
        "backbone.architecture": "squeezenet1_1",
        "backbone.weights": f"{workspace}/backbones/squeezenet1_1-imagenet.safetensors",
        "backbone.features": "penultimate",
        "backbone.image_size": 96,
        "finetune.flip": True,
    }


def test_large_pictures_are_seen_at_the_size_of_the_network(workspace, pictures, propose):
    (workspace / "backbones").mkdir()
    (workspace / "backbones/resnet18-f37072fd.pth").touch()
    _, values = propose(pictures(200))
    assert values["backbone.architecture"] == "resnet18"
    assert "backbone.image_size" not in values  # null, as it is


def test_the_whole_batch_is_looked_at_and_not_only_its_first_classes(workspace, picture, propose):
    (workspace / "backbones").mkdir()
    (workspace / "backbones/squeezenet1_1-imagenet.safetensors").touch()
    for number in range(100):
        file = workspace / "batch" / ("a_grey" if number < 60 else "b_coloured") / f"{number:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(number, width=64, height=64).convert("L" if number < 60 else "RGB").save(file)
    preset, _ = propose(workspace / "batch")
    assert preset == "photographs"


def test_what_a_person_changed_is_not_proposed(workspace, pictures, propose):
    batch = pictures(64)
    (workspace / "backbones/squeezenet1_1-imagenet.safetensors").touch()
    params = workspace / "params.yaml"
    text = re.sub("image_size: null", "image_size: 128", params.read_text("utf-8"))
    params.write_text(text, "utf-8")
    _, values = propose(batch)
    assert values["backbone.architecture"] == "squeezenet1_1"
    assert "backbone.image_size" not in values
    params.write_text(text.replace("preset: small", "preset: custom"), "utf-8")
    (workspace / "backbones/glyphs.safetensors").touch()
    params.write_text(params.read_text("utf-8").replace("backbones/glyphs", f"{workspace}/backbones/glyphs"), "utf-8")
    assert propose(batch) == ("custom", {})


def test_weights_that_cannot_be_had_are_told_with_their_address_and_their_place(workspace, pictures, propose):
    unreachable = {"TORCH_HOME": str(workspace / "none"), "https_proxy": "http://127.0.0.1:9"}
    refusal, _ = propose(pictures(64), **unreachable)
    assert "https://download.pytorch.org/models/resnet" in refusal
    assert f"put it at {workspace}/backbones/resnet" in refusal


def test_preset_for_text_is_refused_until_it_exists(workspace, pictures, propose):
    params = workspace / "params.yaml"
    params.write_text(params.read_text("utf-8").replace("preset: small", "preset: text"), "utf-8")
    refusal, _ = propose(pictures(16))
    assert refusal == ("params.yaml: preset is 'text', text cannot be learned yet: choose small, photographs or custom")
