import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tasks.embedding.fused_steps import NO_ACTIVATION, Activation
from tasks.embedding.winograd import RELU, WinogradConvolution, suits

# small maps share a product; a large map takes several. One map more than a product has by itself would get other bits
SHAPES = [(16, 128, 7, 7), (5, 128, 28, 28), (2, 128, 61, 46), (129, 128, 4, 4)]


def convolution(channels=128, **options):
    torch.manual_seed(0)
    return nn.Conv2d(channels, 136, **{"kernel_size": 3, "padding": 1} | options).requires_grad_(False)


def maps(*shape):
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    return noise.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_result_is_that_of_the_definition(shape, has_bias):
    layer, images = convolution(bias=has_bias), maps(*shape)
    bias = layer.bias.double() if has_bias else None
    expected = F.conv2d(images.double(), layer.weight.double(), bias, padding=1)
    plain = WinogradConvolution(layer, shape=shape, activation=NO_ACTIVATION)(images)
    torch.testing.assert_close(plain.double(), expected, rtol=0, atol=1e-4)
    assert plain.is_contiguous(memory_format=torch.channels_last)
    other = maps(*expected.shape)
    step = WinogradConvolution(layer, shape=shape, activation=RELU)
    torch.testing.assert_close(step(images, other).double(), torch.relu(expected + other), rtol=0, atol=1e-4)
    torch.testing.assert_close(step(images).double(), torch.relu(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_map_has_the_same_bits_with_any_neighbours_in_any_place(shape):
    step, images = WinogradConvolution(convolution(), shape=shape, activation=RELU), maps(*shape)
    expected = step(images)
    assert torch.equal(step(images.roll(1, 0)), expected.roll(1, 0))
    alone = torch.zeros_like(images)
    alone[0] = images[-1]
    assert torch.equal(step(alone)[0], expected[-1])


def test_only_what_is_faster_so_is_computed_so():
    shape = SHAPES[0]
    assert suits(convolution(), shape, RELU)
    others = {"stride": 2}, {"dilation": 2}, {"groups": 2}, {"padding": 0}, {"kernel_size": 5, "padding": 2}
    assert not any(suits(convolution(**options), shape, RELU) for options in others)
    assert not suits(convolution(64), (16, 64, 7, 7), RELU)
    assert not suits(convolution(), (1, *shape[1:]), RELU)
    assert not suits(convolution().bfloat16(), shape, RELU)
    assert not suits(convolution(), shape, Activation("swish", []))
