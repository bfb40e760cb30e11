"""Networks of timm, with random weights: one for each family of its most downloaded ones, at the smallest size."""

import json
from hashlib import sha256

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tasks.embedding.boundary import find_boundary, frozen_part, trained_part
from tasks.embedding.embedder import Embedder, Plan
from tasks.embedding.fused_steps import FusedConvolution
from tasks.embedding.recipe import recipe
from tasks.images.decode import decode_sample
from tasks.images.transform import Transform
from tasks.models.bundle import load_bundle, save_bundle
from tasks.models.classifier import Classifier
from tasks.models.weights import load_backbone

timm = pytest.importorskip("timm", reason="needs the extra [timm]: pip install -e '.[timm]'")

# the architecture: the image size (px), and the dimensions of its features and of its last map
FAMILIES = {
    "resnet18": (64, 512, 512),
    "mobilenetv3_small_050": (64, 1024, 288),
    "efficientnet_b0": (64, 1280, 1280),
    "tf_efficientnet_lite0": (64, 1280, 1280),
    "regnety_002": (64, 368, 368),
    "convnext_atto": (64, 320, 320),
    "test_vit": (64, 64, 64),
    "deit_tiny_distilled_patch16_224": (64, 192, 192),
    "vit_small_patch14_dinov2": (56, 384, 384),
    "eva02_tiny_patch14_224": (56, 192, 192),
    "swin_tiny_patch4_window7_224": (56, 768, 768),
}
SMALL = "test_resnet"
PLAN = Plan(device="cpu", precision="fp32", execution="fused", minibatch_size=4)


def backbone_of(architecture, **options):
    """Return a backbone with batch statistics like those of a trained one; untrained ones would fold into nothing."""
    torch.manual_seed(0)
    size = FAMILIES[architecture][0] if architecture in FAMILIES else 64
    backbone = load_backbone(architecture, weights="random", library="timm", **{"image_size": size} | options)
    for part in backbone.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)
    return backbone


def pixels(backbone, *, n=3):
    size = backbone.transform.crop_size
    shape = (n, 3, size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def assert_same(actual, expected):
    scale = expected.abs().max()
    torch.testing.assert_close(actual / scale, expected / scale, rtol=0, atol=1e-4)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_features_are_those_of_timm_on_the_fused_engine_too(architecture):
    backbone = backbone_of(architecture)
    images = backbone.transform.normalize(pixels(backbone))
    with torch.inference_mode():
        network = backbone.network
        expected = network.forward_head(network.forward_features(images), pre_logits=True).flatten(1)
        assert backbone.dim == FAMILIES[architecture][1] == expected.shape[1]
        assert_same(backbone(images), expected)
        embedder = Embedder(backbone, PLAN)
        assert_same(embedder(pixels(backbone)), expected)
        assert torch.equal(embedder(pixels(backbone))[:1], embedder(pixels(backbone)[:1]))  # whatever the neighbours
    fused = [part for part in embedder.network.modules() if isinstance(part, FusedConvolution)]
    left = [part for part in embedder.network.modules() if type(part) is nn.Conv2d]
    assert fused
    assert not left


@pytest.mark.parametrize("architecture", FAMILIES)
def test_pooled_features_are_the_mean_of_the_last_map_without_the_tokens_before_it(architecture):
    backbone = backbone_of(architecture, features="pooled")
    images = backbone.transform.normalize(pixels(backbone))
    with torch.inference_mode():
        last = backbone.network.forward_features(images)
        if last.ndim == 4:
            expected = last.mean(dim=(1, 2)) if architecture.startswith("swin") else last.mean(dim=(2, 3))
        else:
            expected = last[:, backbone.network.num_prefix_tokens :].mean(dim=1)
        assert backbone.dim == FAMILIES[architecture][2]
        assert_same(backbone(images), expected)
        assert_same(Embedder(backbone, PLAN)(pixels(backbone)), expected)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_frozen_part_and_trained_part_together_give_the_features_of_the_backbone(architecture):
    backbone = backbone_of(architecture)
    last = backbone.blocks()[::-1][:2]
    boundary = find_boundary(backbone, last)
    assert boundary is not None
    frozen, trained = frozen_part(backbone, boundary), trained_part(backbone, boundary).eval()
    images = backbone.transform.normalize(pixels(backbone))
    with torch.no_grad():
        activations, expected = frozen(images), backbone(images)
    features = trained(activations)
    assert_same(features, expected)
    parameters = [parameter for block in last for parameter in block.parameters()]
    assert not any(gradient is None for gradient in torch.autograd.grad(features.square().sum(), parameters))


@pytest.mark.parametrize("architecture", FAMILIES)
def test_backbone_survives_a_bundle(architecture, tmp_path):
    backbone = backbone_of(architecture)
    save_bundle(tmp_path, Classifier(backbone, {"animal": ["cat", "dog"]}), lineage={})
    loaded = load_bundle(tmp_path)[0].backbone
    assert loaded.fingerprint() == backbone.fingerprint()
    assert loaded.transform == backbone.transform


def test_parts_by_name_are_averaged_and_joined():
    backbone = backbone_of("resnet18", features=["layer2", "layer4"])
    assert backbone.dim == 128 + 512
    images = backbone.transform.normalize(pixels(backbone))
    with torch.inference_mode():
        assert_same(Embedder(backbone, PLAN)(pixels(backbone)), backbone(images))


def test_version_of_timm_belongs_to_the_recipe():
    embedder = Embedder(backbone_of(SMALL), PLAN)
    facts = recipe(embedder, "tasks.embedding.engine", handed_in=(decode_sample,), backbone="")
    assert facts["versions"]["timm"] == timm.__version__


@pytest.fixture
def published(tmp_path):
    """Return a network, and the folder that timm itself writes of it for the hub."""
    from timm.models import save_for_hf

    torch.manual_seed(3)
    network = timm.create_model(SMALL, num_classes=7).eval()
    save_for_hf(network, tmp_path / "published", safe_serialization=True)
    return network, tmp_path / "published"


def changed(folder, **changes):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | changes))


def test_folder_as_timm_writes_it_gives_its_features_and_its_own_transform(published):
    network, folder = published
    backbone = load_backbone(SMALL, weights=str(folder), library="timm")
    own = network.pretrained_cfg
    assert backbone.transform.crop_size == own["input_size"][-1]
    assert (backbone.transform.mean, backbone.transform.interpolation) == (own["mean"], own["interpolation"])
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        expected = network.forward_head(network.forward_features(images), pre_logits=True)
        assert_same(backbone(images), expected)


def test_folder_of_another_image_size_and_pooling_is_built_as_it_was_saved(tmp_path):
    from timm.models import save_for_hf

    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=5, img_size=64, global_pool="avg", drop_path_rate=0.1).eval()
    save_for_hf(network, tmp_path, safe_serialization=True)
    backbone = load_backbone("test_vit", weights=str(tmp_path), library="timm")
    assert backbone.transform.crop_size == 64
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = network.forward_head(network.forward_features(images), pre_logits=True)
        assert_same(backbone(images), expected)
    (tmp_path / "bundle").mkdir()
    save_bundle(tmp_path / "bundle", Classifier(backbone, {}), lineage={})
    assert load_bundle(tmp_path / "bundle")[0].backbone.fingerprint() == backbone.fingerprint()


def test_positions_of_a_transformer_are_brought_to_another_image_size(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=5)
    save_file(network.state_dict(), tmp_path / "vit.safetensors")
    backbone = load_backbone("test_vit", weights=str(tmp_path / "vit.safetensors"), library="timm", image_size=64)
    assert backbone.network.pos_embed.shape[1] < network.pos_embed.shape[1]


def test_weights_of_another_digest_than_the_pinned_one_are_refused(published):
    _, folder = published
    digest = sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    load_backbone(SMALL, weights=f"{folder}@sha256:{digest}", library="timm", image_size=64)
    with pytest.raises(ValueError, match=f"has SHA-256 {digest}, expected {'0' * 64}"):
        load_backbone(SMALL, weights=f"{folder}@sha256:{'0' * 64}", library="timm", image_size=64)
    with pytest.raises(ValueError, match=r"ends in @sha256:12ab, expected 64 hexadecimal digits"):
        load_backbone(SMALL, weights=f"{folder}@sha256:12ab", library="timm", image_size=64)


def test_squashed_images_show_all_of_a_long_picture(published):
    _, folder = published
    content = json.loads((folder / "config.json").read_text())
    changed(folder, pretrained_cfg=content["pretrained_cfg"] | {"crop_mode": "squash", "crop_pct": 1.0})
    transform = load_backbone(SMALL, weights=str(folder), library="timm").transform
    assert transform.resize == "squash"
    assert transform.resize_size == transform.crop_size


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "resnet50"}, r"is of the architecture 'resnet50', and backbone\.architecture is test_resnet"),
        ({"model_args": {"depth": 10**9}}, "changes the architecture by depth, which is not read"),
        ({"pretrained_cfg": {"crop_mode": "border"}}, "has crop_mode border"),
        ({"pretrained_cfg": {"input_size": [1, 64, 64]}}, r"has input_size \[1, 64, 64\], expected 3 channels"),
    ],
)
def test_folder_that_asks_for_what_is_not_built_is_refused_by_name(published, changes, message):
    _, folder = published
    changed(folder, **changes)
    with pytest.raises(ValueError, match=message):
        load_backbone(SMALL, weights=str(folder), library="timm")


def test_weights_of_another_network_are_refused_by_name(published):
    _, folder = published
    with pytest.raises(ValueError, match=r"do not fit.*name the architecture that they were trained with"):
        load_backbone("test_efficientnet", weights=str(folder / "model.safetensors"), library="timm")


def test_folder_without_weights_is_refused_by_name(published):
    _, folder = published
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"model\.safetensors is missing: copy it there; weights in other formats"):
        load_backbone(SMALL, weights=str(folder), library="timm")


@pytest.mark.parametrize("name", ["resnet19", "hf-hub:someone/network", "local-dir:/etc"])
def test_architecture_that_timm_does_not_list_is_refused_before_anything_is_fetched(name):
    with pytest.raises(ValueError, match=r"is not one of timm's, such as "):
        load_backbone(name, weights="random", library="timm")


def test_fixed_transform_of_a_weights_file_is_that_in_its_header(tmp_path):
    own = Transform(resize_size=40, crop_size=32, interpolation="bicubic")
    state = timm.create_model(SMALL, num_classes=2).state_dict()
    save_file(state, tmp_path / "net.safetensors", metadata={"transform": json.dumps(own.to_dict())})
    assert load_backbone(SMALL, weights=str(tmp_path / "net.safetensors"), library="timm").transform == own
