import numpy as np
import pandas as pd
import pytest
import torch

from tasks.data.copies import COPIES
from tasks.data.images import sample_id
from tasks.data.perceptual_hash import perceptual_hashes
from tasks.embed import check_finite, embed_looked, embed_minibatches, probe
from tasks.models.weights import load_backbone
from tasks.params import EmbedParams


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


def look(backbone, images):
    return [(backbone.transform.pixels(image), perceptual_hashes(image)) for image in images]


def probe_batch(backbone, batch, picture, splits, *, num_probed=32, width=16):
    """The probes of the six pictures of `batch`, and the rows and numbers that they were made from."""
    paths = sorted(batch.rglob("*.png"))
    rows = pd.DataFrame(
        {
            "batch": batch.name,
            "path": [str(path.relative_to(batch)) for path in paths],
            "sample_id": [sample_id(path.read_bytes()) for path in paths],
            "split": splits,
            "width": width,
            "height": 16,
        }
    )
    vectors, bits = embed_looked(backbone, look(backbone, map(picture, range(6))), size=4)
    params = EmbedParams(minibatch_size=4, num_probed=num_probed)
    return probe(rows, vectors.half(), bits, raw=batch.parent, backbone=backbone, params=params)


def test_hashes_are_in_the_order_of_the_pictures(backbone, picture):
    vectors, bits = embed_looked(backbone, look(backbone, map(picture, range(6))), size=4)
    assert len(vectors) == len(bits) == 6
    assert all(np.array_equal(each, perceptual_hashes(picture(seed))) for seed, each in enumerate(bits))


def test_no_pictures_have_no_vectors_and_no_hashes(backbone):
    vectors, bits = embed_looked(backbone, [], size=4)
    assert vectors.shape == (0, backbone.dim)
    assert bits.shape[0] == 0


def test_probes_have_a_row_a_sample_and_a_column_a_kind(backbone, batch, picture):
    found = probe_batch(backbone, batch, picture, ["train"] * 6, num_probed=4)
    assert found.kinds == tuple(COPIES)
    assert found.cosines.shape == found.distances.shape == (4, len(COPIES))
    assert (found.cosines > 0.5).all()
    assert (found.distances[:, found.kinds.index("flipped")] < 40).all()


def test_held_out_samples_are_not_probed(backbone, batch, picture):
    found = probe_batch(backbone, batch, picture, ["heldout", "train", "heldout", "val", "heldout", "heldout"])
    assert len(found.cosines) == 2
    none = probe_batch(backbone, batch, picture, ["heldout"] * 6)
    assert none.cosines.shape == (0, len(COPIES))


def test_picture_too_long_for_a_jpeg_is_not_probed(backbone, batch, picture):
    assert probe_batch(backbone, batch, picture, ["train"] * 6, width=70_000).cosines.shape == (0, len(COPIES))
