import os
import re
import urllib.request
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from tasks.embedding.fusion import trace
from tasks.images.transform import Transform
from tasks.models.backbone import Backbone, resized, signed_power
from tasks.models.weights import load_backbone, load_weights

# The architecture: its last classification layer, an image size (px) that it can take, the dimension of that layer's
# input, and that of the last feature map. There is one for each way in which torchvision builds a network.
ARCHITECTURES = {
    "alexnet": ("classifier.6", 64, 4096, 256),
    "convnext_tiny": ("classifier.2", 64, 768, 768),
    "densenet121": ("classifier", 64, 1024, 1024),
    "efficientnet_b0": ("classifier.1", 64, 1280, 1280),
    "efficientnet_v2_s": ("classifier.1", 64, 1280, 1280),
    "googlenet": ("fc", 64, 1024, 1024),
    "inception_v3": ("fc", 128, 2048, 2048),
    "maxvit_t": ("classifier.5", 224, 512, 512),
    "mnasnet0_5": ("classifier.1", 64, 1280, 1280),
    "mobilenet_v2": ("classifier.1", 64, 1280, 1280),
    "mobilenet_v3_small": ("classifier.3", 64, 1024, 576),
    "regnet_x_400mf": ("fc", 64, 400, 400),
    "regnet_y_400mf": ("fc", 64, 440, 440),
    "resnet18": ("fc", 64, 512, 512),
    "resnext50_32x4d": ("fc", 64, 2048, 2048),
    "shufflenet_v2_x0_5": ("fc", 64, 1024, 1024),
    "squeezenet1_1": ("classifier.1", 64, 512, 512),
    "swin_t": ("head", 64, 768, 768),
    "swin_v2_t": ("head", 64, 768, 768),
    "vgg11": ("classifier.6", 64, 4096, 512),
    "vit_b_32": ("heads.head", 224, 768, 768),
}
SMALL = "shufflenet_v2_x0_5"


def transform(size):
    return Transform(resize_size=size, crop_size=size)


def original(architecture, *, seed=0, **options):
    """Return torchvision's own network, untrained."""
    torch.manual_seed(seed)
    if architecture in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True, "transform_input": True}
    return models.get_model(architecture, weights=None, **options).eval()


def images(size, *, n=2, seed=0):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def classifier_input(network, layer, images):
    """Return the input of the network's last layer, (n, dim); a map is averaged over its positions."""
    inputs = []
    hook = network.get_submodule(layer).register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    network(images)
    hook.remove()
    return inputs[0].flatten(2).mean(dim=2) if inputs[0].ndim == 4 else inputs[0]


def assert_same_features(actual, expected):
    """Assert equality up to rounding at any scale: untrained networks give very small or very large numbers."""
    scale = expected.abs().max()
    torch.testing.assert_close(actual / scale, expected / scale, rtol=0, atol=1e-4)


@torch.no_grad()
def features(backbone, images):
    return backbone.eval()(images)


@pytest.fixture(scope="module")
def small_network():
    return original(SMALL)


@pytest.fixture
def small(small_network):
    """Return a function that builds a small backbone with the weights of `small_network`."""

    def build(*, features="penultimate", size=32, **options):
        backbone = Backbone(SMALL, features=features, transform=transform(size), **options)
        load_weights(backbone, small_network.state_dict(), name="small")
        return backbone.eval()

    return build


def test_every_family_of_torchvision_has_a_representative_here():
    def family(name):
        return models.get_model_builder(name).__module__

    families = {family(name) for name in models.list_models(module=models)}
    assert families == {family(name) for name in ARCHITECTURES}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_penultimate_features_are_the_input_of_the_last_layer(architecture):
    layer, size, dim, _ = ARCHITECTURES[architecture]
    network = original(architecture)
    backbone = Backbone(architecture, features="penultimate", transform=transform(size))
    load_weights(backbone, network.state_dict(), name="original")
    vectors = features(backbone, images(size))
    assert vectors.shape == (2, dim)
    assert vectors.isfinite().all()
    assert not torch.equal(vectors[0], vectors[1])
    assert_same_features(vectors, classifier_input(network, layer, images(size)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pooled_features_have_one_number_per_channel(architecture):
    _, size, _, channels = ARCHITECTURES[architecture]
    backbone = load_backbone(architecture, weights="random", features="pooled", image_size=size)
    vectors = features(backbone, images(size))
    assert backbone.dim == channels
    assert vectors.shape == (2, channels)
    assert vectors.isfinite().all()
    assert not torch.equal(vectors[0], vectors[1])


@pytest.mark.parametrize("architecture", ["resnet18", "swin_t", "convnext_tiny", "densenet121"])
def test_pooled_features_of_a_tiny_image_still_have_one_number_per_channel(architecture):
    """At 32 px the last map has a single position."""
    backbone = load_backbone(architecture, weights="random", features="pooled", image_size=32)
    assert backbone.dim == ARCHITECTURES[architecture][3]


def test_pooled_features_are_the_mean_of_the_last_feature_map():
    network = original("resnet18")
    backbone = Backbone("resnet18", features="pooled", transform=transform(64))
    load_weights(backbone, network.state_dict(), name="original")
    with torch.no_grad():
        stem = network.maxpool(network.relu(network.bn1(network.conv1(images(64)))))
        last = network.layer4(network.layer3(network.layer2(network.layer1(stem))))
    assert_same_features(features(backbone, images(64)), last.mean(dim=(2, 3)))


def test_named_parts_are_averaged_and_joined_in_their_order(small, small_network):
    maps = {}
    for name in ("stage2", "conv5"):
        small_network.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: maps.update({name: output.mean(dim=(2, 3))})
        )
    with torch.no_grad():
        small_network(images(64))
    vectors = features(small(features=["conv5", "stage2"], size=64), images(64))
    assert_same_features(vectors, torch.cat([maps["conv5"], maps["stage2"]], dim=1))


def test_named_part_with_channels_last_gives_one_number_per_channel():
    """The stages of Swin output (n, height, width, channels)."""
    assert Backbone("swin_t", features=["features.7"], transform=transform(64)).dim == 768


def test_error_about_an_unknown_part_names_the_known_ones():
    with pytest.raises(
        ValueError, match=r"backbone\.features names 'stage9', which shufflenet_v2_x0_5 lacks; its parts"
    ):
        Backbone(SMALL, features=["stage9"], transform=transform(32))


def test_part_that_outputs_more_than_one_tensor_is_refused_by_name():
    name = "encoder.layers.encoder_layer_0.self_attention"
    with pytest.raises(ValueError, match=name):
        Backbone("vit_b_32", features=[name], transform=transform(224))


def test_part_that_is_never_called_is_refused_by_name():
    name = "encoder.layers.encoder_layer_0.self_attention.out_proj"
    with pytest.raises(ValueError, match=name):
        Backbone("vit_b_32", features=[name], transform=transform(224))


def test_part_named_twice_is_refused_by_name():
    with pytest.raises(ValueError, match="stage2"):
        Backbone(SMALL, features=["stage2", "stage2"], transform=transform(32))


def test_error_about_an_unknown_architecture_names_the_known_ones():
    with pytest.raises(ValueError, match=r"architecture 'resnet19' is not one of .*resnet18.*"):
        load_backbone("resnet19", weights="random")


@pytest.mark.parametrize(("architecture", "size"), [("alexnet", 16), ("vit_b_32", 70), ("inception_v3", 32)])
def test_error_names_an_image_size_that_the_network_cannot_take(architecture, size):
    with pytest.raises(ValueError, match=f"{architecture} cannot take images of {size} px") as refused:
        load_backbone(architecture, weights="random", image_size=size)
    assert "\n" not in str(refused.value)


def test_power_of_a_half_takes_about_the_square_roots_of_features(small):
    roots = signed_power(torch.tensor([4.0, -9.0, 100.0, 0.0]), 0.5)
    assert roots.tolist() == pytest.approx([2, -3, 10, 0], rel=0.01)
    plain, powers = (features(small(features=["stage2", "conv5"], power=power), images(32)) for power in (1.0, 0.5))
    assert torch.equal(powers, signed_power(plain, 0.5))


def test_gradient_of_a_power_is_finite_where_a_feature_is_zero():
    zeros = torch.zeros(3, requires_grad=True)
    signed_power(zeros, 0.5).sum().backward()
    assert zeros.grad.tolist() == pytest.approx([10, 10, 10])


def test_traced_network_computes_the_same_powers(small):
    backbone = small(features=["stage2", "conv5"], power=0.5)
    with torch.inference_mode():
        assert_same_features(trace(backbone)(images(32)), features(backbone, images(32)))
    assert backbone.part_dims == (48, 1024)


def test_only_a_power_changes_the_fingerprint(small):
    assert small(power=1.0).fingerprint() == small().fingerprint() != small(power=0.5).fingerprint()


def test_with_flip_an_image_and_its_mirror_image_have_the_mean_of_their_features(small):
    mean = (features(small(), images(32)) + features(small(), images(32).flip(3))) / 2
    torch.testing.assert_close(features(small(flip=True), images(32)), mean)
    torch.testing.assert_close(features(small(flip=True), images(32).flip(3)), mean)


def test_features_of_further_resolutions_are_joined_before_those_of_the_full_size(small):
    parts = ["stage2", "conv5"]
    backbone = small(features=parts, resolutions=[16, 24], power=0.5)
    expected = [
        features(small(features=parts, size=size, power=0.5), resized(images(32), size) if size < 32 else images(32))
        for size in (16, 24, 32)
    ]
    assert torch.equal(features(backbone, images(32)), torch.cat(expected, dim=1))
    assert backbone.part_dims == (48, 1024) * 3
    assert backbone.dim == 3 * 1072


def test_a_smaller_resolution_shows_means_of_the_pixels():
    board = ((torch.arange(32)[:, None] + torch.arange(32)) % 2).float().expand(1, 3, 32, 32)
    assert resized(board, 8).mean() == pytest.approx(0.5)
    assert resized(board, 8).std() < 0.05


def test_traced_network_looks_at_mirror_images_and_resolutions_too(small):
    backbone = small(features=["stage2", "conv5"], flip=True, resolutions=[16], power=0.5)
    with torch.inference_mode():
        assert_same_features(trace(backbone)(images(32)), features(backbone, images(32)))


@pytest.mark.parametrize("changed", [{"flip": True}, {"resolutions": [16]}, {"resolutions": [16, 24]}])
def test_each_way_to_look_at_an_image_has_a_fingerprint_of_its_own(small, changed):
    assert small(flip=False, resolutions=[]).fingerprint() == small().fingerprint() != small(**changed).fingerprint()


@pytest.mark.parametrize("resolutions", [[32], [48], [16, 16], [24, 16]])
def test_resolutions_that_are_not_below_the_image_size_and_in_order_are_refused(small, resolutions):
    with pytest.raises(ValueError, match=r"backbone.resolutions is \[.*\], expected sizes below .*, 32 px"):
        small(resolutions=resolutions)


def test_error_names_a_resolution_that_the_network_cannot_take():
    with pytest.raises(ValueError, match="vit_b_32 cannot take images of 32 and 64 px"):
        load_backbone("vit_b_32", weights="random", image_size=64, resolutions=[32])


def test_features_of_an_image_do_not_depend_on_its_neighbours(small):
    backbone = small()
    together = features(backbone, images(32, n=4))
    other = torch.cat([images(32, n=4)[:1], images(32, n=3, seed=1)])
    assert torch.equal(features(backbone, other)[0], together[0])


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_weights_file_gives_the_features_of_its_network(small_network, tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    save = save_file if suffix == ".safetensors" else torch.save
    save(small_network.state_dict(), path)
    vectors = features(load_backbone(SMALL, weights=str(path), image_size=64), images(64))
    assert_same_features(vectors, classifier_input(small_network, "fc", images(64)))


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_state_dict_inside_a_checkpoint_is_found(small_network, tmp_path, wrapper):
    torch.save({wrapper: small_network.state_dict(), "epoch": 3}, tmp_path / "weights.pth")
    vectors = features(load_backbone(SMALL, weights=str(tmp_path / "weights.pth"), image_size=64), images(64))
    assert_same_features(vectors, classifier_input(small_network, "fc", images(64)))


@pytest.mark.parametrize("num_classes", [None, 7])
def test_last_layer_of_the_weights_is_not_needed(small_network, tmp_path, num_classes):
    state = {key: tensor for key, tensor in small_network.state_dict().items() if not key.startswith("fc.")}
    if num_classes:
        state |= {"fc.weight": torch.zeros(num_classes, 1024), "fc.bias": torch.zeros(num_classes)}
    save_file(state, tmp_path / "weights.safetensors")
    vectors = features(load_backbone(SMALL, weights=str(tmp_path / "weights.safetensors"), image_size=64), images(64))
    assert_same_features(vectors, classifier_input(small_network, "fc", images(64)))


def test_transform_in_the_header_of_a_weights_file_is_used(small_network, tmp_path):
    path = tmp_path / "weights.safetensors"
    header = '{"resize_size": 40, "crop_size": 36, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}'
    save_file(small_network.state_dict(), path, metadata={"transform": header})
    assert load_backbone(SMALL, weights=str(path)).transform == Transform(
        resize_size=40, crop_size=36, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
    )


@pytest.mark.parametrize("header", ['{"resize_size": 40', '{"resize_size": 40}', '{"crop": 1, "mean": [], "std": []}'])
def test_broken_header_of_a_weights_file_is_refused_by_name(small_network, tmp_path, header):
    path = tmp_path / "weights.safetensors"
    save_file(small_network.state_dict(), path, metadata={"transform": header})
    with pytest.raises(ValueError, match=r"weights\.safetensors"):
        load_backbone(SMALL, weights=str(path))


def test_image_size_that_is_set_replaces_that_of_the_weights():
    assert load_backbone(SMALL, weights="random").transform.crop_size == 224
    smaller = load_backbone(SMALL, weights="random", image_size=32).transform
    assert (smaller.resize_size, smaller.crop_size) == (32, 32)


def test_weights_of_another_architecture_are_refused(small_network, tmp_path):
    save_file(small_network.state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(
        ValueError, match=r"weights .*weights\.safetensors do not fit: they lack conv1.*instead of resnet18"
    ):
        load_backbone("resnet18", weights=str(tmp_path / "weights.safetensors"), image_size=32)


def test_weights_of_another_width_are_refused(tmp_path):
    save_file(original("shufflenet_v2_x1_0").state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="do not fit: they have another shape for conv5"):
        load_backbone(SMALL, weights=str(tmp_path / "weights.safetensors"), image_size=32)


class Trap:
    """An object that makes a folder `mark` when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_packed_weights_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    """A few kB that would take 20 MB."""
    monkeypatch.setattr("torch.load", lambda *args, **options: pytest.fail("it was read"))
    torch.save({"conv1.0.weight": torch.zeros(5 * 10**6)}, tmp_path / "plain.pth")
    for packing in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(tmp_path / "packed.pth", "w") as packed:
            for name in plain.namelist():
                packed.writestr(name, plain.read(name), compress_type=packing)
        with pytest.raises(ValueError, match=r"packed\.pth is packed, so a small file could fill the memory"):
            load_backbone(SMALL, weights=str(tmp_path / "packed.pth"), image_size=32)


@pytest.mark.parametrize("is_archive", [True, False])
def test_pickle_that_makes_bytes_out_of_a_number_is_refused_before_it_is_read(tmp_path, monkeypatch, is_archive):
    """A kB that would take 4 GB."""
    monkeypatch.setattr("torch.load", lambda *args, **options: pytest.fail("it was read"))
    bomb = b"\x80\x02}U\x01xcbuiltins\nbytearray\n\x8a\x05" + (4 * 10**9).to_bytes(5, "little") + b"\x85Rs."
    if is_archive:
        with zipfile.ZipFile(tmp_path / "bomb.pth", "w") as archive:
            archive.writestr("bomb/data.pkl", bomb)
    else:
        (tmp_path / "bomb.pth").write_bytes(bomb)
    with pytest.raises(ValueError, match=r"bomb\.pth makes bytes that it does not hold"):
        load_backbone(SMALL, weights=str(tmp_path / "bomb.pth"), image_size=32)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_file_that_is_too_large_for_its_network_is_not_read(tmp_path, suffix):
    with (tmp_path / f"weights{suffix}").open("wb") as file:
        file.truncate(10**10)  # it takes no room on the disk
    with pytest.raises(ValueError, match=r"has 10,000,000,000 bytes, expected at most .* for shufflenet_v2_x0_5"):
        load_backbone(SMALL, weights=str(tmp_path / f"weights{suffix}"), image_size=32)


def test_weights_file_in_the_older_format_of_torch_is_read(small_network, tmp_path):
    torch.save(small_network.state_dict(), tmp_path / "weights.pth", _use_new_zipfile_serialization=False)
    vectors = features(load_backbone(SMALL, weights=str(tmp_path / "weights.pth"), image_size=64), images(64))
    assert_same_features(vectors, classifier_input(small_network, "fc", images(64)))


def test_code_in_a_weights_file_is_refused_and_never_run(tmp_path):
    torch.save({"weight": Trap(tmp_path / "mark")}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"weights\.pth is not a plain state dict") as refused:
        load_backbone(SMALL, weights=str(tmp_path / "weights.pth"), image_size=32)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.zeros(3)])
def test_weights_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"weights\.pth has no state dict, expected tensors by name"):
        load_backbone(SMALL, weights=str(tmp_path / "weights.pth"), image_size=32)


@pytest.mark.parametrize(
    ("suffix", "kept"),
    [
        *((".safetensors", kept) for kept in (0.0, 0.001, 0.5, 0.999)),
        *((".pth", kept) for kept in (0.5, 0.999)),
        (".pth", 0.0),
        (".pth", 0.001),
    ],
)
def test_torn_weights_file_is_refused_by_name(small_network, tmp_path, suffix, kept):
    path = tmp_path / f"weights{suffix}"
    save = save_file if suffix == ".safetensors" else torch.save
    save(small_network.state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=rf"weights file .*weights\{suffix} is not a"):
        load_backbone(SMALL, weights=str(path), image_size=32)


def test_error_names_a_missing_weights_file(tmp_path):
    with pytest.raises(ValueError, match=r"weights file .*gone\.pth is missing: put it there, or correct"):
        load_backbone(SMALL, weights=str(tmp_path / "gone.pth"), image_size=32)


def test_error_about_unknown_weights_names_the_known_ones():
    with pytest.raises(
        ValueError, match="weights 'IMAGENET' are not known for resnet18: torchvision has IMAGENET1K_V1"
    ):
        load_backbone("resnet18", weights="IMAGENET", image_size=32)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Yield an empty cache of torchvision's weights. There is no network: nobody listens on the proxy's port."""
    for scheme in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(scheme, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # an opener keeps the proxy of its first use
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "hub"))
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)


def test_error_about_weights_that_cannot_be_downloaded_names_their_address_and_their_place(hub):
    with pytest.raises(
        ValueError, match="weights resnet18 IMAGENET1K_V1 are not cached and cannot be downloaded"
    ) as error:
        load_backbone("resnet18", weights="IMAGENET1K_V1", image_size=32)
    url = models.ResNet18_Weights.IMAGENET1K_V1.url
    assert f"download {url} on another machine and put it at {hub / url.rsplit('/', 1)[1]}" in str(error.value)


def test_error_about_torn_weights_in_the_cache_names_the_remedy(hub):
    place = hub / models.ResNet18_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]
    place.parent.mkdir(parents=True)
    place.write_bytes(b"PK\x03\x04 half a download")
    with pytest.raises(ValueError, match=f"IMAGENET1K_V1 at {re.escape(str(place))} are damaged .*: remove them"):
        load_backbone("resnet18", weights="IMAGENET1K_V1", image_size=32)


def published(architecture, state):
    """Return the state dict as torchvision's server has it: some files are older than the code that reads them."""
    if architecture == "densenet121":
        names = {key: re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key) for key in state}
        return {names[key]: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    if architecture == "vit_b_32":
        return {
            key.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): tensor
            for key, tensor in state.items()
        }
    return state


@pytest.mark.parametrize(
    "architecture", ["shufflenet_v2_x0_5", "mnasnet0_5", "densenet121", "googlenet", "inception_v3", "vit_b_32"]
)
@pytest.mark.filterwarnings("ignore:The default weight initialization of:FutureWarning")
def test_cached_weights_give_the_features_that_torchvision_gives(hub, architecture):
    name = "IMAGENET1K_V1"
    layer, size, _, _ = ARCHITECTURES[architecture]
    options = {"aux_logits": True} if architecture in ("googlenet", "inception_v3") else {}
    torch.manual_seed(0)
    state = models.get_model(architecture, weights=None, **options).state_dict()
    weights = models.get_model_weights(architecture)[name]
    hub.mkdir(parents=True)
    torch.save(published(architecture, state), hub / weights.url.rsplit("/", 1)[1])
    expected = classifier_input(models.get_model(architecture, weights=weights).eval(), layer, images(size))
    vectors = features(load_backbone(architecture, weights=name, image_size=size), images(size))
    assert_same_features(vectors, expected)


def test_equal_backbones_have_equal_fingerprints(small):
    assert small().fingerprint() == small().fingerprint()


def test_other_features_have_another_fingerprint(small):
    choices = ("penultimate", "pooled", ["conv5"], ["stage4"])
    assert len({small(features=features).fingerprint() for features in choices}) == 4


def test_another_transform_has_another_fingerprint(small):
    assert small(size=32).fingerprint() != small(size=48).fingerprint()


@pytest.mark.parametrize("name", ["conv1.0.weight", "conv5.1.running_mean"])
def test_weights_that_differ_in_one_number_have_another_fingerprint(small, name):
    backbone = small()
    before = backbone.fingerprint()
    tensor = backbone.network.state_dict()[name]
    tensor[(0,) * tensor.ndim] += 1e-6
    assert backbone.fingerprint() != before


@pytest.mark.parametrize("architecture", ["resnet18", "shufflenet_v2_x0_5", "vit_b_32", "densenet121", "vgg11"])
def test_blocks_hold_every_layer_once_from_input_to_output(architecture):
    size = ARCHITECTURES[architecture][1]
    backbone = Backbone(architecture, features="penultimate", transform=transform(size))
    held = [id(parameter) for block in backbone.blocks() for parameter in block.parameters()]
    assert all(any(True for _ in block.parameters()) for block in backbone.blocks())
    assert len(set(held)) == len(held)
    in_order = [id(parameter) for parameter in backbone.network.parameters() if parameter.ndim != 3]  # no ViT tokens
    assert [parameter for parameter in in_order if parameter in set(held)] == held
    assert set(held) == set(in_order)


def test_normalisation_is_in_the_block_that_it_follows():
    first = Backbone("resnet18", features="penultimate", transform=transform(32)).blocks()[0]
    assert [type(part) for part in first] == [nn.Conv2d, nn.BatchNorm2d]
