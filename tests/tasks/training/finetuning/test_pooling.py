import pytest
import torch
from torch import nn

from tasks.training.finetuning.pooling import Pooling, pool_by_products


@pytest.mark.parametrize(
    ("inputs", "outputs"), [((7, 7), (7, 7)), ((2, 2), (7, 7)), ((13, 9), (6, 4)), ((8, 8), (4, 2))]
)
def test_products_pool_as_torch_does(inputs, outputs):
    maps = torch.randn(2, 3, *inputs, generator=torch.Generator().manual_seed(0), requires_grad=True)
    pooled = Pooling(outputs)(maps)
    torch.testing.assert_close(pooled, nn.functional.adaptive_avg_pool2d(maps, outputs))
    [gradient] = torch.autograd.grad(pooled.square().sum(), maps)
    [expected] = torch.autograd.grad(nn.functional.adaptive_avg_pool2d(maps, outputs).square().sum(), maps)
    torch.testing.assert_close(gradient, expected)


def test_pooling_to_one_position_stays():
    network = nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.AdaptiveAvgPool2d(7), nn.AdaptiveAvgPool2d((6, 6)))
    pool_by_products(network)
    assert [type(part) for part in network] == [nn.AdaptiveAvgPool2d, Pooling, Pooling]
