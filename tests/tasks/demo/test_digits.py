import pytest
from PIL import Image

from tasks.demo.digits import run


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    out = tmp_path_factory.mktemp("digits") / "raw"
    run(out=out)
    return out


def test_every_scan_is_in_the_folder_of_its_digit(raw):
    counts = {folder.name: len(list(folder.iterdir())) for folder in raw.iterdir()}
    assert sorted(counts) == [str(digit) for digit in range(10)]
    assert sum(counts.values()) == 1797


def test_scan_is_small_and_grey_with_light_ink(raw):
    first = Image.open(raw / "0" / "0000.png")
    assert (first.mode, first.size) == ("L", (8, 8))
    assert first.getpixel((0, 0)) == 0
    assert first.getpixel((2, 1)) == round(13 * 255 / 16)  # the data set says 13 of 16
