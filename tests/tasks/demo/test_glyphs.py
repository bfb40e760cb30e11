import pytest
import torch

from tasks.demo.glyphs import CANVAS, VAL_FONTS, Distortion, distort, draw_glyphs

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def glyphs():
    return draw_glyphs("ABЖ", VAL_FONTS)


def spoil(images, *, seed=0):
    return distort(images, torch.Generator().manual_seed(seed), size=32, limits=Distortion())


def test_letter_is_drawn_in_every_font_that_has_it(glyphs):
    images, labels = glyphs
    assert images.shape == (len(labels), CANVAS, CANVAS)
    assert labels.bincount().tolist() == [len(VAL_FONTS)] * 3


def test_letter_is_light_on_dark_and_touches_no_edge(glyphs):
    images, _ = glyphs
    assert images.flatten(1).amax(dim=1).min() > 200
    edges = torch.cat([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], dim=1)
    assert edges.max() == 0


def test_distorted_glyphs_are_grey_images_of_the_chosen_size(glyphs):
    images = spoil(glyphs[0])
    assert images.shape == (len(glyphs[0]), 3, 32, 32)
    assert images.dtype == torch.uint8
    assert torch.equal(images[:, 0], images[:, 1])


def test_equal_generators_distort_equally(glyphs):
    assert torch.equal(spoil(glyphs[0]), spoil(glyphs[0]))
    assert not torch.equal(spoil(glyphs[0]), spoil(glyphs[0], seed=1))
