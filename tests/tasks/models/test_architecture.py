import pytest
import torch
from torch import nn

from tasks.models.architecture import without_random_values


@pytest.fixture(scope="module", autouse=True)
def random_weights():
    """Draw as torch does, not as the other tests of networks do."""


@pytest.mark.parametrize(
    "initialise",
    [
        nn.init.trunc_normal_,
        lambda weight: nn.init.trunc_normal_(weight, mean=2.1),  # whose mean is out of bounds
        lambda weight: nn.init.trunc_normal_(weight, mean=3.0, a=-1.0, b=1.0),
        lambda weight: nn.init.trunc_normal_(weight, std=9.0),
        lambda weight: nn.init.trunc_normal_(weight, mean=0.9, std=9.0, a=-1.0, b=1.0),
    ],
)
def test_initialisation_that_draws_until_all_numbers_are_within_bounds_ends(initialise):
    weight = without_random_values(lambda: initialise(nn.Parameter(torch.empty(64, 64))))
    assert float(weight.detach().abs().max()) <= 2.0


def test_layers_begin_at_the_means_of_their_distributions():
    state = torch.get_rng_state()
    layer = without_random_values(lambda: nn.Linear(8, 4))
    assert not layer.weight.any()
    without_random_values(lambda: nn.init.uniform_(layer.weight, 2.0, 4.0))
    assert (layer.weight == 3.0).all()
    without_random_values(lambda: nn.init.normal_(layer.weight, 4.0))
    assert (layer.weight == 4.0).all()
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        without_random_values(lambda: layer.weight.uniform_(-1, to=3))
        assert (layer.weight == 1.0).all()
        without_random_values(lambda: layer.weight.uniform_(1.0, 3.0))
        assert (layer.weight == 2.0).all()
        without_random_values(lambda: layer.weight.normal_(5.0, 1.0))
        assert (layer.weight == 5.0).all()
