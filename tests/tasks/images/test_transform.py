import pytest
import torch
from PIL import Image
from torchvision import models

from tasks.images.transform import Transform


@pytest.mark.parametrize(("width", "height"), [(300, 200), (50, 120), (256, 256)])
@pytest.mark.parametrize("weights", [models.ResNet18_Weights.DEFAULT, models.Swin_T_Weights.DEFAULT])
def test_pixels_are_those_of_the_transform_of_the_weights(picture, weights, width, height):
    preset = weights.transforms()
    transform = Transform.from_preset(preset)
    image = picture(width=width, height=height)
    normalised = transform.normalize(transform.prepare(image)[None])
    one_level = 1 / 255 / min(preset.std)
    torch.testing.assert_close(normalised, preset(image)[None], check_stride=False, rtol=0, atol=one_level * 1.01)


@pytest.mark.parametrize(("width", "height"), [(9, 200), (200, 9), (1, 1)])
def test_image_of_any_shape_fills_the_square(width, height):
    pixels = Transform(resize_size=40, crop_size=32).prepare(Image.new("RGB", (width, height), (10, 20, 30)))
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == torch.uint8
    assert pixels.flatten(1).unique(dim=1).flatten().tolist() == [10, 20, 30]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_long_strip_of_few_bytes_takes_little_memory_and_shows_its_middle(interpolation):
    image = Image.new("RGB", (20_000_000, 1), (10, 20, 30))
    image.paste((40, 50, 60), (9_999_000, 0, 10_001_000, 1))
    pixels = Transform(resize_size=224, crop_size=224, interpolation=interpolation).prepare(image)
    assert pixels.flatten(1).unique(dim=1).flatten().tolist() == [40, 50, 60]


def test_transform_is_restored_from_its_dict():
    transform = Transform(resize_size=40, crop_size=32, mean=(0.1, 0.2, 0.3), interpolation="bicubic")
    assert Transform.from_dict(transform.to_dict()) == transform


def test_normalising_does_not_change_its_input():
    pixels = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    Transform(resize_size=4, crop_size=4).normalize(pixels)
    assert pixels.unique().tolist() == [255]
