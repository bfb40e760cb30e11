import pytest
import torch
from torch import nn

from tasks.embedding.boundary import find_boundary, flatten, frozen_part, trained_part, unflatten
from tasks.models.weights import load_backbone

# one network for each way in which tensors pass between blocks: sums, concatenations, halves, tokens, windows, branches
NETWORKS = {
    "resnet18": ("penultimate", 64),
    "shufflenet_v2_x0_5": (["stage2", "stage3", "stage4", "conv5"], 32),
    "densenet121": ("penultimate", 64),
    "mobilenet_v3_small": ("pooled", 64),
    "efficientnet_b0": ("penultimate", 64),
    "squeezenet1_1": ("penultimate", 64),
    "googlenet": ("penultimate", 64),
    "vit_b_32": ("penultimate", 64),
    "swin_t": (["features.3", "features.7"], 64),
}


def backbone_of(architecture, *, features=None, size=None, **options):
    """Return a backbone with batch statistics like those of a trained one."""
    torch.manual_seed(0)
    default_features, default_size = NETWORKS[architecture]
    backbone = load_backbone(
        architecture, weights="random", features=features or default_features, image_size=size or default_size,
        **options,
    )  # fmt: skip
    for part in backbone.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return backbone.eval()


def images(backbone, *, n=3):
    size = backbone.transform.crop_size
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def last_blocks(backbone, count):
    return backbone.blocks()[::-1][:count]


def cut(backbone, count):
    boundary = find_boundary(backbone, last_blocks(backbone, count))
    assert boundary is not None
    return boundary, frozen_part(backbone, boundary), trained_part(backbone, boundary).eval()


@pytest.mark.parametrize("architecture", ["shufflenet_v2_x0_5", "squeezenet1_1"])
def test_both_parts_look_at_each_resolution_and_mirror_image(architecture):
    backbone = backbone_of(architecture, flip=True, resolutions=[24])
    boundary, frozen, trained = cut(backbone, 2)
    with torch.no_grad():
        activations = frozen(images(backbone))
        assert activations.shape == (3, boundary.width)
        features, expected = trained(activations), backbone(images(backbone))
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


@pytest.fixture(scope="module", params=NETWORKS)
def backbone_and_features(request):
    """A backbone of each network, and its features of `images`."""
    backbone = backbone_of(request.param)
    with torch.no_grad():
        return backbone, backbone(images(backbone))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_frozen_part_and_trained_part_together_give_the_features_of_the_backbone(backbone_and_features, count):
    backbone, expected = backbone_and_features
    boundary, frozen, trained = cut(backbone, count)
    with torch.no_grad():
        activations = frozen(images(backbone))
        assert activations.shape == (3, boundary.width)
        features = trained(activations)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("architecture", NETWORKS)
def test_trained_part_has_the_weights_of_the_trained_blocks_and_shares_them(architecture):
    backbone = backbone_of(architecture, features="penultimate")  # these features need every block
    _, frozen, trained = cut(backbone, 2)

    def addresses(*modules):
        return {tensor.data_ptr() for module in modules for tensor in (*module.parameters(), *module.buffers())}

    assert addresses(*last_blocks(backbone, 2)) <= addresses(trained)
    assert addresses(trained) <= addresses(backbone)
    assert not addresses(backbone) & addresses(frozen)


def test_frozen_part_has_no_weights_of_the_trained_blocks():
    """Blocks that the frozen part does not need would only cost time."""
    backbone = backbone_of("resnet18")
    _, frozen, trained = cut(backbone, 2)
    assert not any(name.startswith(("layer4.0", "layer4.1")) for name, _ in frozen.named_parameters())
    assert {name.rpartition(".")[0].split(".")[0] for name, _ in trained.named_parameters()} == {"layer4"}


def test_training_the_trained_part_trains_the_backbone():
    backbone = backbone_of("shufflenet_v2_x0_5")
    _, frozen, trained = cut(backbone, 1)
    with torch.no_grad():
        before = backbone(images(backbone))
        for parameter in trained.parameters():
            parameter.mul_(1.1)
        assert not torch.equal(backbone(images(backbone)), before)
        torch.testing.assert_close(trained(frozen(images(backbone))), backbone(images(backbone)), rtol=1e-4, atol=1e-6)


def test_gradients_are_those_of_the_backbone():
    backbone = backbone_of("resnet18")
    _, frozen, trained = cut(backbone, 2)
    parameters = [parameter for block in last_blocks(backbone, 2) for parameter in block.parameters()]
    with torch.no_grad():
        activations = frozen(images(backbone))
    gradients = torch.autograd.grad(trained(activations).square().sum(), parameters)
    expected = torch.autograd.grad(backbone(images(backbone)).square().sum(), parameters)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * other.abs().max().item())


def test_features_of_frozen_depths_are_activations_too():
    """The features come from four depths. With the last two blocks trained, the earlier depths are activations."""
    backbone = backbone_of("shufflenet_v2_x0_5")
    boundary, *_ = cut(backbone, 2)
    only_last, *_ = cut(backbone_of("shufflenet_v2_x0_5", features="penultimate"), 2)
    assert boundary.width == only_last.width + 48 + 96  # the mean maps of stage2 and stage3
    assert len(boundary.steps) == len(only_last.steps) + 2


def test_fewer_trained_blocks_have_smaller_activations():
    backbone = backbone_of("resnet18")
    widths = [cut(backbone, count)[0].width for count in (0, 1, 3, 5)]
    assert widths[0] == 512
    assert widths == sorted(widths)
    assert widths[-1] > widths[0]


@pytest.mark.parametrize("architecture", ["resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "vit_b_32", "swin_t"])
def test_there_is_no_boundary_if_everything_is_trained(architecture):
    backbone = backbone_of(architecture)
    assert find_boundary(backbone, backbone.blocks()) is None


def test_finding_a_boundary_leaves_the_backbone_as_it_was():
    backbone = backbone_of("resnet18")
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    cut(backbone.train(), 2)
    assert backbone.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert all(parameter.requires_grad for parameter in backbone.parameters())


@pytest.mark.parametrize("shape", [(7,), (5, 6), (4, 3, 2)])
def test_tensors_of_any_rank_come_back_from_the_columns(shape):
    tensor = torch.randn(2, *shape)
    columns = torch.cat([torch.zeros(2, 5), flatten(tensor), torch.ones(2, 3)], dim=1)
    assert torch.equal(unflatten(columns, 5, columns.shape[1] - 3, shape), tensor)
