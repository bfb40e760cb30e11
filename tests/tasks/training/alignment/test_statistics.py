"""Statistics of a domain's own undo what a domain does to the channels, and move nothing where it does nothing."""

import torch
from torch import nn

from tasks.models.normalisation import running_statistics, with_statistics
from tasks.training.alignment.statistics import PRIOR_SAMPLES, moments_of_layers, own_statistics

SIZE = 64  # of a minibatch


class Network(nn.Module):
    """Two normalised convolutions, whose running statistics are those of neither domain."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6)
        )
        for layer in self.layers:
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.running_mean, std=0.3)
                nn.init.uniform_(layer.running_var, 0.5, 1.5)

    def forward(self, images):
        return self.layers(images).mean(dim=(2, 3))


def images(num=SIZE * 4, *, seed=0):
    return torch.randn(num, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def changed(images):
    return images * torch.tensor([0.3, 2.0, 1.0])[:, None, None] + torch.tensor([2.0, -1.0, 0.5])[:, None, None]


def statistics_of(network, target, *, minibatch=SIZE):
    usual = moments_of_layers(network, images().split(SIZE))
    return own_statistics(network, target.split(minibatch), num_samples=len(target), usual=usual)


@torch.no_grad()
def test_a_change_of_all_channels_is_undone():
    network = Network().eval()
    target = images(seed=1)
    expected, shifted = network(target), network(changed(target))
    own = with_statistics(network, statistics_of(network, changed(target)))(changed(target))
    assert (own - expected).abs().mean() < 0.1 * (shifted - expected).abs().mean()


@torch.no_grad()
def test_statistics_stay_where_nothing_changed_though_they_are_not_those_of_the_sources():
    network = Network().eval()
    own = statistics_of(network, images(seed=1))
    torch.testing.assert_close(own, running_statistics(network), rtol=0.1, atol=0.05)
    assert not torch.allclose(own[0], torch.stack(moments_like(network))[0], atol=0.1)


def moments_like(network):
    found = moments_of_layers(network, images().split(SIZE))
    return [torch.cat([one[part] for one in found]).float() for part in (0, 1)]


@torch.no_grad()
def test_few_samples_are_drawn_towards_the_sources():
    network = Network().eval()
    few, many = changed(images(4, seed=1)), changed(images(400, seed=1))
    usual, drawn, own = (running_statistics(network)[0, :3], statistics_of(network, few)[0, :3],
                         statistics_of(network, many)[0, :3])  # fmt: skip
    assert ((drawn - usual).abs() < 0.6 * (own - usual).abs()).all()
    assert len(few) < PRIOR_SAMPLES


def test_the_network_keeps_its_own_statistics_and_the_result_is_the_same_each_time():
    network = Network().eval()
    before = running_statistics(network).clone()
    found = [statistics_of(network, changed(images(seed=1))) for _ in range(2)]
    assert torch.equal(*found)
    assert torch.equal(running_statistics(network), before)
    assert not any(layer._forward_pre_hooks for layer in network.modules())
