"""Image encoders of transformers, with random weights, from the folders that transformers itself writes."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks.embedding.boundary import find_boundary, frozen_part, trained_part
from tasks.embedding.embedder import Embedder, Plan
from tasks.embedding.fused_steps import FusedConvolution, FusedLinear
from tasks.images.transform import Transform
from tasks.machine.extras import MissingExtraError
from tasks.models.bundle import DESCRIPTION, load_bundle, save_bundle
from tasks.models.classifier import Classifier
from tasks.models.description import with_digest
from tasks.models.transformers_networks import make_transform
from tasks.models.weights import load_backbone

pytest.importorskip("transformers", reason="needs the extra [transformers]: pip install -e '.[transformers]'")

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
         "image_size": 32, "patch_size": 8}  # fmt: skip
WORDS = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 99,
         "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}  # fmt: skip
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
WINDOWS = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "image_size": 32, "window_size": 4}
PAIR = {"text_config": WORDS, "vision_config": SIZES}
# the architecture: the class and the config of the published model, and the name of its image tower in it
PUBLISHED = {
    "clip_vision_model": ("CLIPModel", PAIR, "vision_model"),
    "siglip_vision_model": ("SiglipModel", PAIR, "vision_model"),
    "dinov2": ("Dinov2Model", SIZES, None),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", SIZES, None),
    "vit": ("ViTForImageClassification", SIZES, "vit"),
    "deit": ("DeiTModel", SIZES, None),
    "beit": ("BeitForImageClassification", SIZES, "beit"),
    "swin": ("SwinModel", WINDOWS, None),
    "convnext": ("ConvNextForImageClassification", STAGES, "convnext"),
    "resnet": ("ResNetModel", STAGES | {"embedding_size": 8}, None),
}  # fmt: skip
PREPROCESSOR = {"size": {"height": 32, "width": 32}, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
PLAN = Plan(device="cpu", precision="fp32", execution="fused", minibatch_size=4)
PIXELS = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def publish(folder, architecture):
    """Write the folder of a model, and return its image tower."""
    import transformers

    name, options, tower = PUBLISHED[architecture]
    torch.manual_seed(0)
    network_class = getattr(transformers, name)
    model = network_class(network_class.config_class(**options)).eval()
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return model.get_submodule(tower) if tower else model


def changed(folder, name="config.json", **changes):
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(content | changes))


@pytest.fixture
def folder(tmp_path):
    publish(tmp_path / "dinov2", "dinov2")
    return tmp_path / "dinov2"


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_features_are_those_of_transformers_whole_or_cut_in_two(architecture, tmp_path):
    tower = publish(tmp_path, architecture)
    backbone = load_backbone(architecture, weights=str(tmp_path), library="transformers")
    images = backbone.transform.normalize(PIXELS)
    with torch.no_grad():
        output = tower(pixel_values=images)
        is_token = architecture in ("vit", "deit")  # whose pooled output is a layer that classifiers lack
        expected = output.last_hidden_state[:, 0] if is_token else output.pooler_output.flatten(1)
        torch.testing.assert_close(backbone(images), expected)
        embedder = Embedder(backbone, PLAN)
        torch.testing.assert_close(embedder(PIXELS), expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(embedder(PIXELS[:1]), embedder(PIXELS)[:1])  # whatever the neighbours
    assert embedder.plan.execution == "fused"
    assert any(isinstance(part, FusedLinear | FusedConvolution) for part in embedder.network.modules())
    last = backbone.blocks()[::-1][:2]
    boundary = find_boundary(backbone, last)
    assert boundary is not None
    with torch.no_grad():
        activations = frozen_part(backbone, boundary)(images)
    features = trained_part(backbone, boundary)(activations)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    parameters = [parameter for block in last for parameter in block.parameters()]
    assert not any(gradient is None for gradient in torch.autograd.grad(features.square().sum(), parameters))


def test_pooled_features_are_the_mean_over_the_positions_alone(folder):
    backbone = load_backbone("dinov2", weights=str(folder), library="transformers", features="pooled")
    images = backbone.transform.normalize(PIXELS)
    with torch.no_grad():
        hidden = backbone.network.base_model.embeddings  # the parts keep their names
        assert hidden is not None
        last = backbone.network.layernorm(backbone.network.encoder(backbone.network.embeddings(images))[0])
        torch.testing.assert_close(backbone(images), last[:, 1:].mean(dim=1), rtol=1e-4, atol=1e-5)


def test_layers_by_name_are_averaged_and_joined(folder):
    parts = ["encoder.layer.0", "encoder.layer.1"]
    backbone = load_backbone("dinov2", weights=str(folder), library="transformers", features=parts)
    assert backbone.dim == 64
    with torch.no_grad():
        expected = backbone(backbone.transform.normalize(PIXELS))
    torch.testing.assert_close(Embedder(backbone, PLAN)(PIXELS), expected, rtol=1e-4, atol=1e-5)


def test_backbone_survives_a_bundle(tmp_path):
    publish(tmp_path / "siglip", "siglip_vision_model")
    backbone = load_backbone("siglip_vision_model", weights=str(tmp_path / "siglip"), library="transformers")
    (tmp_path / "bundle").mkdir()
    save_bundle(tmp_path / "bundle", Classifier(backbone, {"animal": ["cat", "dog"]}), lineage={})
    loaded = load_bundle(tmp_path / "bundle")[0].backbone
    assert loaded.fingerprint() == backbone.fingerprint()
    assert loaded.transform.resize == "squash"


def forged(folder, tmp_path, **changes):
    """Return a bundle whose description was changed."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    backbone = load_backbone("dinov2", weights=str(folder), library="transformers")
    save_bundle(bundle, Classifier(backbone, {}), lineage={})
    content = json.loads((bundle / DESCRIPTION).read_text())
    changes = {key: value(content[key]) if callable(value) else value for key, value in changes.items()}
    (bundle / DESCRIPTION).write_text(json.dumps(with_digest(content | changes)))
    return bundle


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"library": "keras"}, "library expected 'torchvision', 'timm' or 'transformers'"),
        ({"config": lambda own: own | {"num_hidden_layers": 10**6}}, "num_hidden_layers 1000000"),
        ({"config": lambda own: own | {"model_type": "vision_of_a_stranger"}}, "has model_type 'vision_of"),
        ({"config": lambda own: own | {"hidden_size": 8000}}, "another shape"),
        ({"library": "timm", "architecture": "test_resnet"}, "config of test_resnet is"),
    ],
)
def test_bundle_of_a_stranger_is_refused_before_a_network_is_built(folder, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load_bundle(forged(folder, tmp_path, **changes))


def test_bundle_names_the_extra_that_is_missing(folder, tmp_path, monkeypatch):
    bundle = forged(folder, tmp_path)
    monkeypatch.setattr("tasks.machine.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"package transformers is not installed.*'\.\[transformers\]'"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "vit"}, r"is of the architecture 'vit', and backbone\.architecture is dinov2"),
        ({"num_hidden_layers": 2000}, "num_hidden_layers 2000, expected"),
        ({"hidden_act": "no_such"}, "cannot build this dinov2"),
        ({"out_features": ["stage1"] * 1000}, "out_features of 1000 parts"),
        ({"num_hidden_layers": 3}, r"they lack encoder\.layer\.2"),
        ({"hidden_size": 8192}, "bytes, but dinov2 has"),
    ],
)
def test_config_of_a_stranger_is_refused_by_name(folder, changes, message):
    changed(folder, **changes)
    with pytest.raises(ValueError, match=message):
        load_backbone("dinov2", weights=str(folder), library="transformers")


def test_weights_that_lack_a_tensor_are_refused_by_name(folder):
    state = load_file(folder / "model.safetensors")
    del state["layernorm.bias"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"do not fit dinov2: they lack layernorm\.bias"):
        load_backbone("dinov2", weights=str(folder), library="transformers")


@pytest.mark.parametrize("kind", ["bert", "vit_mae", "timm_wrapper"])
def test_network_that_is_no_encoder_of_images_alone_is_refused_by_name(folder, kind):
    changed(folder, model_type=kind)
    with pytest.raises(ValueError, match=f"has model_type '{kind}', expected one of beit, .*vit_msn"):
        load_backbone(kind, weights=str(folder), library="transformers")


IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
PLAIN = Transform(resize_size=256, crop_size=224, interpolation="bicubic")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (  # DINOv2
            {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "resample": 3},
            PLAIN,
        ),
        (  # ConvNeXt below 384 px
            {"size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3},
            PLAIN,
        ),
        (  # an old CLIP
            {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224, "do_center_crop": True,
             "resample": 3},
            Transform(resize_size=224, crop_size=224, interpolation="bicubic"),
        ),
        (  # an old ViT
            {"size": 224, "resample": 2},
            Transform(resize_size=224, crop_size=224, interpolation="bilinear", resize="squash"),
        ),
    ],
)  # fmt: skip
def test_transform_is_that_of_the_preprocessor(facts, expected):
    assert make_transform(IMAGENET | facts, name="preprocessor_config.json") == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"do_flip_channel_order": True}, "do_flip_channel_order True, expected false"),
        ({"rescale_factor": 1.0}, "rescale_factor 1.0, expected 1/255"),
        ({"resample": None}, "resample None, expected 0 to 5"),
        ({"size": {"height": 224, "width": 112}}, "size .* expected shortest_edge"),
        ({"image_mean": [0.5]}, r"image_mean \[0.5\], expected three numbers"),
    ],
)
def test_preprocessor_of_another_kind_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        make_transform(PREPROCESSOR | changes, name="preprocessor_config.json")
