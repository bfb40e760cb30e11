import numpy as np
import pytest

from tasks.images.alterations import ALTERED_COPIES, brightened, cropped, flipped, recompressed, resized


def test_altered_images_have_the_requested_size(picture):
    image = picture(width=200, height=100)
    assert resized(image, fraction=0.5).size == (100, 50)
    assert cropped(image, across=1.0, down=0.0).size == (190, 95)


def test_crop_is_cut_at_its_place(picture):
    image = picture(width=200, height=100)
    crop = np.asarray(cropped(image, across=1.0, down=0.0))
    assert np.array_equal(crop, np.asarray(image)[:95, 10:])


def test_mirroring_twice_gives_the_image_back(picture):
    assert np.array_equal(np.asarray(flipped(flipped(picture()))), np.asarray(picture()))
    assert not np.array_equal(np.asarray(flipped(picture())), np.asarray(picture()))


def test_brightened_copy_is_brighter_and_recompressed_copy_differs(picture):
    before = np.asarray(picture()).astype(int)
    assert (np.asarray(brightened(picture(), factor=1.3)) >= before).all()
    assert (np.asarray(recompressed(picture(), quality=40)) != before).any()


@pytest.mark.parametrize("kind", ALTERED_COPIES)
@pytest.mark.parametrize("side", [1, 8])
def test_smallest_images_can_be_altered(picture, kind, side):
    assert min(ALTERED_COPIES[kind](picture(width=side, height=side), 1.0).size) >= 1
