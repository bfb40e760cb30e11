import pytest
import torch
from torch import nn

from tasks.embedding.fused_steps import FusedAttention, FusedConvolution, FusedLinear
from tasks.embedding.fusion import fold, fuse, trace
from tasks.embedding.winograd import WinogradConvolution
from tasks.models.weights import load_backbone

# a network for each kind of block: residual sums, concatenation, squeeze and excitation, normalisation first, attention
ARCHITECTURES = [
    "resnet18",
    "squeezenet1_1",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "densenet121",
    "swin_t",
    "vit_b_32",
]
SIZE = 64  # px


def backbone_of(architecture, *, features="penultimate"):
    """Return a backbone with batch statistics like those of a trained one; untrained ones would fold into nothing."""
    torch.manual_seed(0)
    backbone = load_backbone(architecture, weights="random", features=features, image_size=SIZE)
    for part in backbone.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)
    return backbone


def images(*, n=8):  # so many that resnet18 has a step of Winograd's
    noise = torch.randn(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return noise.contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def fused_and_original(backbone):
    """Return the features of the fused graph and of the backbone; assert that before fusion they are the same bits."""
    expected = backbone(images())
    graph = trace(backbone)
    assert torch.equal(graph(images()), expected)
    fold(graph)
    fuse(graph, images())
    return graph(images()), expected


@pytest.mark.parametrize("features", ["penultimate", "pooled"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fused_graph_gives_the_features_of_the_backbone(architecture, features):
    fused, expected = fused_and_original(backbone_of(architecture, features=features))
    torch.testing.assert_close(fused, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_residual_blocks_become_fused_convolutions_only():
    graph = trace(backbone_of("resnet18"))
    with torch.inference_mode():
        fold(graph)
        fuse(graph, images())
    kinds = {type(graph.get_submodule(node.target)) for node in graph.graph.nodes if node.op == "call_module"}
    assert kinds == {FusedConvolution, WinogradConvolution, nn.MaxPool2d, nn.AdaptiveAvgPool2d}


def test_linear_layers_and_attention_of_a_transformer_are_fused_with_what_follows_them():
    graph = trace(backbone_of("vit_b_32"))
    with torch.inference_mode():
        fold(graph)
        fuse(graph, images())
    kinds = {type(graph.get_submodule(node.target)) for node in graph.graph.nodes if node.op == "call_module"}
    assert kinds == {FusedConvolution, FusedLinear, FusedAttention, nn.LayerNorm}


def test_map_of_a_named_part_is_taken_before_a_later_step_writes_over_it():
    """The activation after conv1 and bn1 works in place."""
    fused, expected = fused_and_original(backbone_of("resnet18", features=["bn1", "layer1.0.bn2"]))
    torch.testing.assert_close(fused, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "features"),
    [
        ("resnet18", ["layer1.0.relu"]),
        ("resnet18", ["layer4.1.relu", "layer2"]),
        ("swin_t", ["features.1.0.stochastic_depth"]),
    ],
)
def test_part_that_runs_more_than_once_gives_its_last_output(architecture, features):
    fused, expected = fused_and_original(backbone_of(architecture, features=features))
    torch.testing.assert_close(fused, expected, rtol=1e-3, atol=1e-4)


def test_backbone_is_left_as_it_was():
    backbone = backbone_of("resnet18")
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    graph = trace(backbone)
    with torch.inference_mode():
        fold(graph)
        graph.bfloat16()
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert isinstance(backbone.network.get_submodule("bn1"), nn.BatchNorm2d)
