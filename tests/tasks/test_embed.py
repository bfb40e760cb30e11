import pytest
import torch

from tasks.embed import check_finite, embed_minibatches
from tasks.models.backbone import load_backbone


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return load_backbone("shufflenet_v2_x0_5", weights="random", image_size=32)


def pixels(*, n, seed=0):
    return torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def embed(backbone, minibatches):
    return torch.cat(list(embed_minibatches(backbone, iter(minibatches), size=4)))


def test_short_last_minibatch_gives_a_vector_a_picture(backbone):
    assert embed(backbone, pixels(n=10).split(4)).shape == (10, backbone.dim)


def test_every_forward_pass_has_the_same_shape(backbone):
    """Otherwise the same picture could be computed by another kernel, to another last bit."""
    shapes = []
    hook = backbone.register_forward_pre_hook(lambda module, given: shapes.append(tuple(given[0].shape)))
    embed(backbone, pixels(n=10).split(4))
    hook.remove()
    assert shapes == [(4, 3, 32, 32)] * 3


def test_vector_does_not_depend_on_its_neighbours(backbone):
    """The third picture of the second minibatch, once among others and once in a short minibatch."""
    among = embed(backbone, pixels(n=8).split(4))
    last = embed(backbone, [pixels(n=4, seed=1), pixels(n=8)[4:7]])
    assert torch.equal(among[4:7], last[4:7])


def test_vector_that_overflows_half_precision_is_named_by_its_picture():
    vectors = torch.tensor([[1.0, 2.0], [3.0, 70_000.0], [float("nan"), 0.0]])
    with pytest.raises(ValueError, match=r"the embedding of dog/1\.png has numbers that are not finite in float16"):
        check_finite(vectors, ["cat/0.png", "dog/1.png", "dog/2.png"])


def test_largest_number_of_half_precision_is_kept():
    check_finite(torch.tensor([[65_504.0, -65_504.0]]), ["cat/0.png"])
