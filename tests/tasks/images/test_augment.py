import pytest
import torch
from torchvision.transforms.v2 import functional as tvf

from tasks.images.augment import NUM_DRAWS, AugmentedViews, draw
from tasks.images.augment import augment as augmented
from tasks.images.options import Augmentation

NOTHING = {"max_rotation_degrees": 0.0, "max_shift_fraction": 0.0, "max_scale_fraction": 0.0, "flip": False}
MUCH = {"max_rotation_degrees": 30.0, "max_shift_fraction": 0.2, "max_scale_fraction": 0.3, "flip": True}
MIDDLE = 0.5  # a draw that changes nothing


def augment(pixels, draws=None, **limits):
    """Where chance falls is spread evenly unless it is given: (n, NUM_DRAWS) in 0..1."""
    if draws is None:
        draws = torch.rand(len(pixels), NUM_DRAWS, generator=torch.Generator().manual_seed(0))
    return augmented(pixels, draws, Augmentation(**NOTHING | limits))


def names(count, *, first=0):
    return [f"sample {number}" for number in range(first, first + count)]


@pytest.fixture
def pixels():
    return torch.randint(0, 256, (8, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def test_no_limits_give_the_picture_back(pixels):
    assert torch.equal(augment(pixels), pixels)


def test_draws_in_the_middle_give_the_picture_back(pixels):
    assert torch.equal(augment(pixels, torch.full((8, NUM_DRAWS), MIDDLE), **MUCH), pixels)


def test_views_are_pixels_as_they_came_and_lie_channels_last(pixels):
    found = augment(pixels, **MUCH)
    assert (found.dtype, found.shape) == (torch.uint8, pixels.shape)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_flip_mirrors_some_pictures_and_leaves_the_others(pixels):
    found = augment(pixels, flip=True)
    mirrored = [torch.equal(view, image.flip(-1)) for view, image in zip(found, pixels, strict=True)]
    kept = [torch.equal(view, image) for view, image in zip(found, pixels, strict=True)]
    assert all(one != other for one, other in zip(mirrored, kept, strict=True))
    assert any(mirrored)
    assert any(kept)


def test_shift_stays_within_its_fraction_of_the_side():
    """A bright column in the middle of 40 px is found at most 4 px away after shifts of at most 0.1."""
    images = torch.zeros(200, 3, 40, 40, dtype=torch.uint8)
    images[:, :, :, 20] = 255
    places = augment(images, max_shift_fraction=0.1)[:, 0, 20].argmax(dim=1)
    assert int(places.min()) in (16, 17)
    assert int(places.max()) in (23, 24)


def test_rotation_stays_within_its_degrees():
    line = torch.zeros(200, 3, 41, 41, dtype=torch.uint8)
    line[:, :, 20, :] = 255  # level, through the centre
    rows = augment(line, max_rotation_degrees=10.0)[:, 0, :, 38].argmax(dim=1)  # 18 px from the centre
    expected = 18 * torch.tensor(10.0).deg2rad().tan().item()  # 3.2 px
    away = (rows - 20).abs().max().item()
    assert expected - 1 <= away <= expected + 1


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_rotation_is_that_of_torchvision(share):
    image = torch.randint(0, 256, (1, 3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    draws = torch.full((1, NUM_DRAWS), MIDDLE)
    draws[0, 0] = share
    degrees = (share * 2 - 1) * 180
    found = augment(image, draws, max_rotation_degrees=180.0)[0, :, 2:7, 2:7].float()
    ways = [
        tvf.rotate(image.float(), sign * degrees, interpolation=tvf.InterpolationMode.BILINEAR)[0, :, 2:7, 2:7]
        for sign in (-1, 1)
    ]
    assert any(torch.allclose(found, way, atol=0.6) for way in ways)


def test_scale_changes_the_size_of_what_is_shown():
    square = torch.zeros(200, 3, 40, 40, dtype=torch.uint8)
    square[:, :, 10:30, 10:30] = 255
    sides = (augment(square, max_scale_fraction=0.5)[:, 0] / 255).sum(dim=(1, 2)).sqrt()
    assert 9 < sides.min() < 12
    assert 28 < sides.max() < 31


def test_what_comes_in_from_outside_repeats_the_border():
    image = torch.full((4, 3, 10, 10), 77, dtype=torch.uint8)
    assert torch.equal(augment(image, **MUCH), image)


def test_each_picture_gets_its_own_view(pixels):
    same = pixels[:1].expand(8, -1, -1, -1).contiguous()
    found = AugmentedViews(augmentation=Augmentation(**MUCH), seed=0)(same, names(8), 0)
    assert len({each.numpy().tobytes() for each in found}) == 8


def test_view_depends_on_the_sample_and_its_number_and_the_seed_alone(pixels):
    def view(positions, *, number=2, seed=3):
        views = AugmentedViews(augmentation=Augmentation(**MUCH), seed=seed)
        return views(pixels[positions], [names(8)[each] for each in positions], number)

    whole = view(list(range(8)))
    assert torch.equal(view([6, 1]), whole[[6, 1]])
    assert torch.equal(view([4]), whole[[4]])
    assert not torch.equal(view([4], number=1), whole[[4]])
    assert not torch.equal(view([4], seed=4), whole[[4]])


def test_draws_are_spread_evenly_and_do_not_tell_of_each_other():
    found = draw(names(4000), view=1, seed=0)
    assert found.shape == (4000, NUM_DRAWS)
    assert ((found >= 0) & (found <= 1)).all()
    torch.testing.assert_close(found.mean(dim=0), torch.full((NUM_DRAWS,), 0.5), rtol=0, atol=0.02)
    torch.testing.assert_close(found.var(dim=0), torch.full((NUM_DRAWS,), 1 / 12), rtol=0, atol=0.005)
    both = torch.cat([found, draw(names(4000), view=2, seed=0)], dim=1)
    assert (both.T.corrcoef() - torch.eye(2 * NUM_DRAWS)).abs().max() < 0.08


def test_number_of_a_view_and_the_seed_are_not_mixed_up():
    """Nor with a sample's name that begins with a digit."""
    one = draw(["1 x"], view=1, seed=2)
    assert not any(torch.equal(one, draw(["1 x"], view=view, seed=seed)) for view, seed in ((2, 1), (12, 1), (1, 21)))


def test_facts_name_all_that_a_view_depends_on():
    def facts(*, seed=0, **limits):
        return AugmentedViews(augmentation=Augmentation(**MUCH | limits), seed=seed).facts

    changes = [{"seed": 1}, {"flip": False}, *({name: 0.01} for name in MUCH if name != "flip")]
    assert all(facts(**each) != facts() for each in changes)
    assert facts() == facts()
