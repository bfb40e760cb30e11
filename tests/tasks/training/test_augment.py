import pytest
import torch
from torchvision.transforms.v2 import functional as tvf

from tasks.training.augment import random_affine

NOTHING = {"max_rotation_degrees": 0.0, "max_shift_fraction": 0.0, "max_scale_fraction": 0.0, "flip": False}
MUCH = {"max_rotation_degrees": 30.0, "max_shift_fraction": 0.2, "max_scale_fraction": 0.3, "flip": True}


def views(images, *, seed=0, **ranges):
    return random_affine(images, torch.Generator().manual_seed(seed), **NOTHING | ranges)


@pytest.fixture
def images():
    return torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(5))


def test_no_range_gives_the_picture_back(images):
    torch.testing.assert_close(views(images), images, check_stride=False, rtol=0, atol=1e-5)


def test_same_generator_gives_the_same_views(images):
    assert torch.equal(views(images, **MUCH), views(images, **MUCH))


def test_another_generator_gives_other_views(images):
    assert not torch.equal(views(images, **MUCH), views(images, seed=1, **MUCH))


def test_each_picture_gets_its_own_view(images):
    same = images[:1].expand(8, -1, -1, -1).contiguous()
    found = views(same, max_rotation_degrees=30.0)
    assert len({each.numpy().tobytes() for each in found}) == 8


def test_flip_mirrors_some_pictures_and_leaves_the_others(images):
    found = views(images, flip=True)
    mirrored = [torch.allclose(view, image.flip(-1), atol=1e-5) for view, image in zip(found, images, strict=True)]
    kept = [torch.allclose(view, image, atol=1e-5) for view, image in zip(found, images, strict=True)]
    assert all(one != other for one, other in zip(mirrored, kept, strict=True))
    assert any(mirrored)
    assert any(kept)


def test_shift_stays_within_its_fraction_of_the_side():
    """A bright column in the middle of 40 px is found at most 4 px away after shifts of at most 0.1."""
    images = torch.zeros(200, 3, 40, 40)
    images[:, :, :, 20] = 1.0
    places = views(images, max_shift_fraction=0.1)[:, 0, 20].argmax(dim=1)
    assert int(places.min()) in (16, 17)
    assert int(places.max()) in (23, 24)


def test_rotation_stays_within_its_degrees():
    line = torch.zeros(200, 3, 41, 41)
    line[:, :, 20, :] = 1.0  # level, through the centre
    rows = views(line, max_rotation_degrees=10.0)[:, 0, :, 38].argmax(dim=1)  # 18 px from the centre
    expected = 18 * torch.tensor(10.0).deg2rad().tan().item()  # 3.2 px
    away = (rows - 20).abs().max().item()
    assert expected - 1 <= away <= expected + 1


def test_rotation_by_a_right_angle_is_that_of_torchvision():
    """A generator whose every draw is the largest turns by exactly the limit; here the limits do so by seeds."""
    image = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    degrees = (torch.rand(1, generator=torch.Generator().manual_seed(3)) * 2 - 1).item() * 180
    found = views(image, seed=3, max_rotation_degrees=180.0)[0]
    ways = [
        tvf.rotate(image, sign * degrees, interpolation=tvf.InterpolationMode.BILINEAR)[0, :, 2:7, 2:7]
        for sign in (-1, 1)
    ]
    assert any(torch.allclose(found[:, 2:7, 2:7], way, atol=1e-4) for way in ways)


def test_scale_changes_the_size_of_what_is_shown():
    square = torch.zeros(200, 3, 40, 40)
    square[:, :, 10:30, 10:30] = 1.0
    sides = views(square, max_scale_fraction=0.5)[:, 0].sum(dim=(1, 2)).sqrt()
    assert 9 < sides.min() < 12
    assert 28 < sides.max() < 31


def test_what_comes_in_from_outside_repeats_the_border():
    image = torch.full((4, 3, 10, 10), 3.0)
    torch.testing.assert_close(views(image, **MUCH), image, check_stride=False)
