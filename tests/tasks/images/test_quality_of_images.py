import numpy as np
from PIL import Image, ImageFilter

from tasks.images.transform import quality


def marks(image):
    return quality(np.asarray(image).transpose(2, 0, 1)).tolist()


def noise():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def test_brightness_is_the_mean_of_the_pixels():
    assert marks(Image.new("RGB", (9, 9), (30, 60, 90)))[0] == 60


def test_blur_makes_an_image_less_sharp_and_contrast_does_not():
    image = noise()
    sharp, blurred, pale = (
        marks(own)[1]
        for own in (image, image.filter(ImageFilter.GaussianBlur(2)), Image.eval(image, lambda level: 100 + level // 4))
    )
    assert blurred < sharp - 40
    assert abs(pale - sharp) < 3


def test_image_of_one_px_has_marks():
    assert len(marks(Image.new("RGB", (1, 1)))) == 2
