import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from tasks.machine import cores as cores_module
from tasks.targets.classes import Classes
from tasks.training.finetuning.convolution import Convolution, convolve_by_tiles, pays
from tasks.training.loop.fit import PLAIN, Group, fit


class Net(nn.Module):
    """Maps (n, 64, 8, 8) to logits of two classes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(convolution(out=64), nn.ReLU(), convolution(out=64), nn.ReLU())
        self.head = nn.Linear(64, 2)

    def forward(self, maps):
        return [self.head(self.body(maps).mean(dim=(2, 3)))]


def trained(model):
    """The weights of the model after four steps."""
    generator = torch.Generator().manual_seed(3)
    maps, labels = torch.randn(32, 64, 8, 8, generator=generator), torch.arange(32)[:, None] % 2 * 1.0
    fit(
        model, replace(PLAIN, epochs=4), targets=[Classes(("dark", "bright"))], seed=0,
        groups=[Group(parameters=list(model.parameters()), learning_rate=1e-3)], num_minibatches=1,
        minibatches=lambda epoch: [(maps + labels[:, :, None, None], labels)],
        val_minibatches=lambda: [(maps + labels[:, :, None, None], labels)],
    )  # fmt: skip
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def convolution(*, given=64, out=96, bias=True, **settings):
    torch.manual_seed(0)
    return nn.Conv2d(given, out, **{"kernel_size": 3, "padding": 1, "bias": bias} | settings)


def results(network, maps, *, seed=1):
    """The output, and the gradients of the maps and of the weights, for a slope of a seed."""
    maps = maps.clone().requires_grad_()
    output = network(maps)
    slope = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed)).to(output)
    return [output, *torch.autograd.grad(output, [maps, *network.parameters()], slope)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("height", "width"), [(7, 7), (13, 10), (8, 8), (1, 3)])
def test_maps_and_gradients_are_those_of_a_convolution(height, width, bias):
    plain = convolution(bias=bias)
    maps = torch.randn(3, 64, height, width)
    found = results(Convolution(plain), maps)
    expected = results(copy.deepcopy(plain).double(), maps.double())
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert (one - other).norm() <= 1e-5 * other.norm()


def test_tiles_do_not_pay_on_small_maps_or_where_they_hang_over():
    assert [side for side in range(1, 15) if pays(side, side)] == [7, 8, 10, 11, 12, 13, 14]


def test_layout_of_maps_and_weights_does_not_matter():
    plain, maps = convolution(), torch.randn(2, 64, 7, 7)
    expected = results(Convolution(plain), maps)
    found = results(
        Convolution(plain.to(memory_format=torch.channels_last)), maps.to(memory_format=torch.channels_last)
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_weights_that_changed_are_the_ones_used():
    plain, maps = convolution(), torch.randn(2, 64, 7, 7)
    by_tiles = Convolution(plain)
    by_tiles(maps)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    plain(maps).square().mean().backward()
    optimizer.step()
    torch.testing.assert_close(by_tiles(maps), plain(maps), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("capability", "kind"), [("AVX2", Convolution), ("AVX512", nn.Conv2d)])
def test_processor_decides(monkeypatch, capability, kind):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    network = nn.Sequential(convolution())
    convolve_by_tiles(network)
    assert type(network[0]) is kind


def test_training_is_that_of_torch_and_depends_on_no_number_of_cores(monkeypatch):
    expected, found = trained(Net()), []
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    for cores in (1, 2, 3):
        monkeypatch.setattr(cores_module, "num_cores", lambda cores=cores: cores)
        model = Net()
        convolve_by_tiles(model)
        found.append(trained(model))
    assert all(torch.equal(found[0], other) for other in found)
    start = torch.cat([parameter.detach().flatten() for parameter in Net().parameters()])
    assert (found[0] - expected).norm() <= 0.01 * (expected - start).norm()


def test_other_convolutions_stay(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    kept = [
        convolution(given=32), convolution(out=32), convolution(stride=2), convolution(kernel_size=1, padding=0),
        convolution(groups=2), convolution(dilation=2), convolution(padding=0), convolution(padding_mode="reflect"),
    ]  # fmt: skip
    network = nn.Sequential(*kept, convolution())
    convolve_by_tiles(network)
    assert [type(part) for part in network] == [*[nn.Conv2d] * len(kept), Convolution]
