import torch
from torch import nn

from tasks.training.finetuning.adapters import LowRank
from tasks.training.finetuning.path import SHARES, put, weights_at


def test_ends_of_the_way_are_the_two_models_to_the_bit():
    start, end = ({"weight": torch.randn(1000)} for _ in range(2))
    assert torch.equal(weights_at(0.0, start, end)["weight"], start["weight"])
    assert torch.equal(weights_at(1.0, start, end)["weight"], end["weight"])


def test_weights_that_did_not_move_keep_every_bit_on_the_way():
    weights = {"weight": torch.randn(1000)}
    for share in SHARES:
        assert torch.equal(
            weights_at(share, weights, {"weight": weights["weight"].clone()})["weight"], weights["weight"]
        )


def test_statistics_of_normalisation_go_the_same_way_and_counts_are_those_of_the_end():
    start, end = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    put(
        end,
        {"running_mean": torch.ones(2), "running_var": torch.full((2,), 3.0), "num_batches_tracked": torch.tensor(7)},
    )
    own = nn.BatchNorm1d(2)
    put(own, weights_at(0.25, start.state_dict(), end.state_dict()))
    assert own.running_mean.tolist() == [0.25, 0.25]
    assert own.running_var.tolist() == [1.5, 1.5]
    assert own.num_batches_tracked == 7


def test_merged_adapters_go_the_way_of_their_product():
    linear = nn.Linear(5, 4)
    start = {name: tensor.clone() for name, tensor in linear.state_dict().items()}
    adapted = LowRank(linear, 2, torch.Generator().manual_seed(0))
    nn.init.normal_(adapted.up)
    added = 2.0 * (adapted.up @ adapted.down).detach()
    half = weights_at(0.5, start, adapted.merge().state_dict())
    torch.testing.assert_close(half["weight"], start["weight"] + added / 2)
