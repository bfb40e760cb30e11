import contextlib
import io
import random
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tasks.data.samples.defects import DefectError
from tasks.data.samples.samples import read_verified, sample_id
from tasks.images.decode import decode_image, inspect_image
from tasks.images.options import SizeLimits

ORIENTATION = 0x0112  # the EXIF tag


def encode(image, **options):
    stream = io.BytesIO()
    image.save(stream, **options)
    return stream.getvalue()


def inspect(content, *, min_image_size=8, max_image_pixels=10_000):
    return inspect_image(content, limits=SizeLimits(min_image_size=min_image_size, max_image_pixels=max_image_pixels))


def defect_of(content, **limits):
    with pytest.raises(DefectError) as raised:
        inspect(content, **limits)
    assert "\n" not in str(raised.value)
    return raised.value


def pixels(content):
    image = decode_image(content)
    assert image.mode == "RGB"
    return np.asarray(image)  # (height, width, 3)


def png_header(*, width, height):
    """Return a PNG whose header claims so many pixels, and which holds none."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", ["PNG", "BMP", "TIFF"])
def test_lossless_format_gives_exactly_its_pixels(picture, name):
    image = picture(width=20, height=10)
    facts = inspect(encode(image, format=name))
    assert (facts.format, facts.mode, facts.width, facts.height) == (name, "RGB", 20, 10)
    assert np.array_equal(pixels(encode(image, format=name)), np.asarray(image))


@pytest.mark.parametrize("name", ["JPEG", "WEBP"])
def test_lossy_format_gives_nearly_its_pixels(name):
    content = encode(Image.new("RGB", (20, 10), (200, 100, 50)), format=name)
    assert inspect(content).format == name
    assert np.abs(pixels(content).astype(int) - (200, 100, 50)).max() <= 6


def test_format_is_that_of_the_bytes_and_not_of_the_name(tmp_path, picture):
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode(picture(), format="PNG"))
    assert inspect(path.read_bytes()).format == "PNG"
    assert decode_image(read_verified(path, sample_id(path.read_bytes()), batch="a")).size == (16, 16)


def test_grey_is_repeated_in_every_channel():
    assert pixels(encode(Image.new("L", (9, 9), 77), format="PNG")).tolist() == [[[77, 77, 77]] * 9] * 9


def test_black_and_white_becomes_0_and_255():
    image = Image.new("1", (8, 8))
    image.putpixel((3, 2), 1)
    array = pixels(encode(image, format="PNG"))
    assert array[2, 3].tolist() == [255, 255, 255]
    assert array.sum() == 3 * 255


def test_transparent_grey_is_laid_on_white():
    image = Image.new("LA", (8, 8), (0, 0))
    image.putpixel((0, 0), (40, 255))
    array = pixels(encode(image, format="PNG"))
    assert array[0, 0].tolist() == [40, 40, 40]
    assert array[1, 1].tolist() == [255, 255, 255]


def test_transparent_colour_is_laid_on_white():
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.putpixel((0, 0), (10, 20, 30, 255))
    image.putpixel((1, 0), (0, 0, 0, 128))
    array = pixels(encode(image, format="PNG"))
    assert array[0, 0].tolist() == [10, 20, 30]
    assert array[0, 1] == pytest.approx([127, 127, 127], abs=1)
    assert array[1, 1].tolist() == [255, 255, 255]


def test_transparent_entry_of_a_palette_is_laid_on_white():
    image = Image.new("P", (8, 8), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 1)
    array = pixels(encode(image, format="PNG", transparency=0))
    assert array[0, 0].tolist() == [0, 0, 255]
    assert array[1, 1].tolist() == [255, 255, 255]


def test_palette_gives_its_colours():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 12, 34, 56])
    assert pixels(encode(image, format="PNG"))[0, 0].tolist() == [12, 34, 56]


def test_cmyk_becomes_rgb():
    array = pixels(encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), format="JPEG"))
    assert array[8, 8] == pytest.approx([255, 0, 0], abs=6)


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
@pytest.mark.parametrize(("deep", "shallow"), [(0, 0), (256, 1), (32768, 128), (65535, 255)])
def test_16_bit_grey_is_scaled_to_8(name, deep, shallow):
    image = Image.fromarray(np.full((8, 8), deep, dtype=np.uint16))
    array = pixels(encode(image, format=name))
    assert np.abs(array.astype(int) - shallow).max() <= 1


def test_big_endian_16_bit_grey_is_scaled_to_8():
    image = Image.frombytes("I;16B", (8, 8), np.full((8, 8), 32768, dtype=">u2").tobytes())
    content = encode(image, format="TIFF")
    inspect(content)
    assert np.abs(pixels(content).astype(int) - 128).max() <= 1


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda stored: stored),
        (2, np.fliplr),
        (3, lambda stored: np.rot90(stored, 2)),
        (4, np.flipud),
        (6, lambda stored: np.rot90(stored, -1)),
        (8, np.rot90),
    ],
)
def test_image_is_turned_upright(picture, orientation, upright):
    image = picture(width=12, height=9)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    array = pixels(encode(image, format="PNG", exif=exif))
    assert np.array_equal(array, upright(np.asarray(image)))


def test_file_without_bytes_is_a_defect():
    assert defect_of(b"").reason == "empty_file"


def test_text_is_a_defect_that_names_the_formats():
    defect = defect_of(b"label,path\n0,cat.png\n")
    assert defect.reason == "not_an_image"
    assert "JPEG, PNG, WEBP, BMP, TIFF" in str(defect)


def test_format_that_is_not_listed_is_a_defect(picture):
    assert defect_of(encode(picture(), format="GIF")).reason == "not_an_image"


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_half_a_file_is_a_defect(picture, name):
    content = encode(picture(width=40, height=40), format=name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damage too
        assert defect_of(content[: len(content) // 2]).reason == "truncated"


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "BMP"])
def test_first_bytes_of_a_file_are_a_truncated_image(picture, name):
    assert defect_of(encode(picture(), format=name)[:20]).reason == "truncated"


def test_cut_photograph_with_a_thumbnail_is_truncated(picture):
    """The end of the thumbnail is not the end of the photograph."""
    content = encode(picture(width=64, height=64), format="JPEG", exif=b"Exif\0\0" + encode(picture(), format="JPEG"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert defect_of(content[:-300]).reason == "truncated"


def test_long_notes_do_not_make_an_image_unusable(picture):
    notes = PngImagePlugin.PngInfo()
    notes.add_itxt("prompt", "x" * 3_000_000, zip=True)
    assert inspect(encode(picture(), format="PNG", pnginfo=notes)).width == 16


def test_whole_file_that_cannot_be_decoded_is_unreadable(picture):
    content = encode(picture(), format="PNG")
    start = content.index(b"IDAT") + 4
    assert defect_of(content[:start] + bytes(20) + content[start + 20 :]).reason == "unreadable"


def test_tiff_with_endless_pages_does_not_stop_a_scan(picture):
    """Its directory names itself as the next page."""
    content = bytearray(encode(picture(), format="TIFF"))
    start = int.from_bytes(content[4:8], "little")
    at = start + 2 + 12 * int.from_bytes(content[start : start + 2], "little")
    content[at : at + 4] = content[4:8]
    with contextlib.suppress(DefectError):
        inspect(bytes(content))


def test_floating_point_pixels_are_a_defect():
    content = encode(Image.fromarray(np.ones((16, 16), dtype=np.float32)), format="TIFF")
    assert defect_of(content).reason == "unsupported_mode"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_image_with_damaged_exif_is_not_turned(picture):
    content = encode(picture(), format="JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff nonsense")
    assert inspect(content).format == "JPEG"
    assert pixels(content).shape == (16, 16, 3)


def test_defect_of_a_table_under_another_name_says_how_to_name_it():
    assert "read if its name ends in .parquet" in str(defect_of(b"PAR1 and so on"))


def test_image_below_the_least_size_is_a_defect(picture):
    defect = defect_of(encode(picture(width=7, height=30), format="PNG"), min_image_size=8)
    assert (defect.reason, str(defect)) == ("too_small", "7 x 30 px, expected at least 8 px")


def test_image_at_the_limits_is_not_a_defect(picture):
    content = encode(picture(width=8, height=30), format="PNG")
    assert inspect(content, min_image_size=8, max_image_pixels=240).width == 8


def test_too_many_pixels_are_detected_in_the_header():
    defect = defect_of(png_header(width=2000, height=1000), max_image_pixels=1_999_999)
    assert (defect.reason, str(defect)) == ("too_many_pixels", "2000 x 1000 px, expected at most 1999999")


def test_decompression_bomb_has_too_many_pixels():
    assert defect_of(png_header(width=100_000, height=100_000)).reason == "too_many_pixels"


@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF"])
def test_several_images_in_a_file_are_a_defect(picture, name):
    content = encode(picture(1), format=name, save_all=True, append_images=[picture(2)])
    assert defect_of(content).reason == "animated"


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_damaged_file_never_stops_a_scan(picture, name):
    """Any damaged bytes give facts or a defect."""
    rng = random.Random(0)
    options = {"save_all": True, "append_images": [picture(1)]} if name == "TIFF" else {}
    whole = encode(picture(), format=name, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(400):
            damaged = bytearray(whole[: rng.randrange(1, len(whole))] if rng.random() < 0.4 else whole)
            for _ in range(rng.randrange(5)):
                damaged[rng.randrange(min(len(damaged), 100))] = rng.randrange(256)
            with contextlib.suppress(DefectError):
                inspect(bytes(damaged), min_image_size=1, max_image_pixels=10**6)


def test_error_for_a_sample_whose_bytes_changed_names_it(tmp_path, picture):
    path = tmp_path / "cat.png"
    path.write_bytes(encode(picture(1), format="PNG"))
    validated = sample_id(encode(picture(0), format="PNG"))
    with pytest.raises(ValueError, match=r"sample .*cat\.png changed after it was validated") as refused:
        read_verified(path, validated, batch=Path("raw/2024-01"))
    assert validated[:12] in str(refused.value)


def test_error_for_a_missing_sample_names_it(tmp_path):
    with pytest.raises(
        ValueError, match=r"sample .*cat\.png is missing: restore it, or run `dvc pull raw/2024-01.dvc`"
    ):
        read_verified(tmp_path / "cat.png", "0" * 64, batch=Path("raw/2024-01"))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((227, 300), (227, 300)),
        ((511, 900), (511, 900)),
        ((512, 512), (256, 256)),
        ((2100, 3000), (263, 375)),
        ((600, 4000), (300, 2000)),
    ],
)
def test_jpeg_that_is_twice_too_large_is_decoded_to_a_smaller_size(size, expected):
    image = decode_image(encode(Image.new("RGB", size, (10, 200, 30)), format="JPEG"), shorter_side=256)
    assert image.size == expected
    assert np.abs(np.asarray(image).astype(int) - (10, 200, 30)).max() <= 2


def test_jpeg_decoded_to_a_smaller_size_is_turned_upright():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    content = encode(Image.new("RGB", (1024, 600)), format="JPEG", exif=exif)
    assert decode_image(content, shorter_side=256).size == (300, 512)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpegs_are_decoded_to_a_smaller_size_too(mode):
    image = decode_image(encode(Image.new(mode, (1024, 1024)), format="JPEG"), shorter_side=256)
    assert (image.size, image.mode) == ((256, 256), "RGB")


def test_png_is_decoded_at_full_size():
    assert decode_image(encode(Image.new("RGB", (1024, 1024)), format="PNG"), shorter_side=256).size == (1024, 1024)
