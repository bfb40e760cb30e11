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
from tasks.images.decode import decode_sample, inspect_content
from tasks.images.options import SizeLimits

ORIENTATION = 0x0112  # the EXIF tag


def encode(image, **options):
    stream = io.BytesIO()
    image.save(stream, **options)
    return stream.getvalue()


def inspect(content, *, min_image_size=8, max_image_pixels=10_000):
    return inspect_content(content, limits=SizeLimits(min_image_size=min_image_size, max_image_pixels=max_image_pixels))


def defect_of(content, **limits):
    with pytest.raises(DefectError) as raised:
        inspect(content, **limits)
    assert "\n" not in str(raised.value)
    return raised.value


def pixels(content):
    image = decode_sample(content)
    assert image.mode == "RGB"
    return np.asarray(image)  # (height, width, 3)


def chunk(kind, data):
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(header, rows):
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def png_header(*, width, height):
    """Return a PNG whose header claims so many pixels, and which holds none."""
    return png_of(struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"")


def png(values):
    """Return a PNG of (height, width, channels) uint16: grey and alpha, RGB, or RGBA."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png_of(struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0), rows)


def tiff(values, *, order, compression):
    """Return a TIFF of (height, width, 3) uint16."""
    height, width, _ = values.shape
    data = values.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if compression == 8 else data
    bits = struct.pack(f"{order}3H", 16, 16, 16)
    tags = {256: width, 257: height, 259: compression, 262: 2, 277: 3, 278: height, 279: len(data), 273: 8}
    entries = [struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items()]
    entries.append(struct.pack(f"{order}HHII", 258, 3, 3, 8 + len(data)))
    entries.sort(key=lambda entry: struct.unpack(f"{order}H", entry[:2]))
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    magic = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(data) + len(bits))
    return magic + data + bits + directory


@pytest.mark.parametrize("name", ["PNG", "BMP", "TIFF"])
def test_lossless_format_gives_exactly_its_pixels(picture, name):
    image = picture(width=20, height=10)
    facts = inspect(encode(image, format=name))
    assert (facts.format, facts.mode, facts.width, facts.height) == (name, "RGB", 20, 10)
    assert np.array_equal(pixels(encode(image, format=name)), np.asarray(image))


@pytest.mark.parametrize("name", ["JPEG", "WEBP"])
def test_lossy_format_gives_nearly_its_pixels(name):
    content = encode(Image.new("RGB", (20, 10), (200, 100, 50)), format=name)
    assert np.abs(pixels(content).astype(int) - (200, 100, 50)).max() <= 6


def test_format_is_that_of_the_bytes_and_not_of_the_name(tmp_path, picture):
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode(picture(), format="PNG"))
    assert inspect(path.read_bytes()).format == "PNG"
    assert decode_sample(read_verified(path, sample_id(path.read_bytes()), batch="a")).size == (16, 16)


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


def ramp(largest, *, dtype=np.uint16):
    """Values (32, 32) from 0 to `largest`."""
    return np.linspace(0, largest, 32 * 32).reshape(32, 32).astype(dtype)


def assert_spread(content, *, largest=255):
    """The image goes from black to `largest` like a ramp."""
    inspect(content)
    grey = pixels(content)[..., 0].astype(int)
    assert np.abs(grey - ramp(largest, dtype=float)).max() <= 1.5


@pytest.mark.parametrize("name", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_grey_is_spread_by_the_bits_that_it_uses(name, bits):
    assert_spread(encode(Image.fromarray(ramp(2**bits - 1)), format=name))


def test_deep_grey_that_uses_a_part_of_its_bits_keeps_its_darkness():
    assert_spread(encode(Image.fromarray(ramp(2400)), format="PNG"), largest=255 * 2400 / 4095)


@pytest.mark.parametrize("largest", [255, 4095, 65_535, 2**24])
def test_integers_of_32_bits_are_spread(largest):
    assert_spread(encode(Image.fromarray(ramp(largest, dtype=np.int32)), format="TIFF"))


@pytest.mark.parametrize("largest", [1, 255, 4095, 1e20])
def test_real_numbers_are_spread(largest):
    assert_spread(encode(Image.fromarray(ramp(largest, dtype=np.float32)), format="TIFF"))


def test_values_below_zero_are_spread_from_the_least_to_the_largest():
    for values in (ramp(4000, dtype=np.int32) - 1000, ramp(2, dtype=np.float32) - 1):
        assert_spread(encode(Image.fromarray(values), format="TIFF"))


@pytest.mark.filterwarnings("error")
def test_what_is_not_a_number_is_black_and_infinity_is_bright():
    values = ramp(1, dtype=np.float32)
    values[0, :3] = np.nan, np.inf, 1e38
    assert pixels(encode(Image.fromarray(values), format="TIFF"))[0, :2, 0].tolist() == [0, 255]


def test_big_endian_16_bit_grey_is_spread():
    image = Image.frombytes("I;16B", (32, 32), ramp(4095).astype(">u2").tobytes())
    assert_spread(encode(image, format="TIFF"))


def test_range_that_a_png_declares_counts_if_it_holds_the_values():
    def declaring(bits, largest):
        content = encode(Image.fromarray(ramp(largest)), format="PNG")
        return content[:33] + chunk(b"sBIT", bytes([bits])) + content[33:]

    assert_spread(declaring(12, 900), largest=255 * 900 / 4095)
    assert_spread(declaring(12, 65_535))


def test_range_that_a_tiff_declares_counts_if_it_is_less_than_that_of_its_type():
    def declaring(most, largest):
        return encode(Image.fromarray(ramp(largest)), format="TIFF", tiffinfo={281: most})

    assert_spread(declaring(3000, 900), largest=255 * 900 / 3000)
    assert_spread(declaring(65_535, 4095), largest=255 * 4095 / 65_535)


def test_range_that_a_pgm_declares_counts():
    content = b"P5 32 32 4095\n" + ramp(900).astype(">u2").tobytes()
    assert_spread(content, largest=255 * 900 / 4095)


@pytest.mark.parametrize("channels", ["LA", "RGB", "RGBA"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_deep_colours_are_spread_too(channels, bits):
    """Pillow gives their upper 8 bits, which are black where 12 bits are used."""
    deep = np.stack([ramp(2**bits - 1)] * len(channels), axis=2)
    if channels.endswith("A"):
        deep[..., -1] = 65_535
    assert_spread(png(deep))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, 8])
def test_deep_colours_of_a_tiff_are_spread_too(order, compression):
    assert_spread(tiff(np.stack([ramp(4095)] * 3, axis=2), order=order, compression=compression))


def test_deep_colours_of_a_ppm_are_spread_too():
    deep = np.stack([ramp(4095)] * 3, axis=2)
    assert_spread(b"P6 32 32 65535\n" + deep.astype(">u2").tobytes())


@pytest.mark.parametrize("level", [0, 128, 255])
def test_picture_on_which_there_is_nothing_to_see_is_a_defect(level):
    for image in (Image.new("RGB", (20, 20), (level,) * 3), Image.fromarray(np.full((20, 20), level, np.uint16))):
        assert defect_of(encode(image, format="PNG")).reason == "blank"


def test_picture_with_a_single_dot_is_not_blank():
    image = Image.new("L", (99, 99))
    image.putpixel((70, 2), 9)
    assert inspect(encode(image, format="PNG")).width == 99


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
    assert str(defect) == "text that begins with 'label,path 0,cat.png'"


def test_unknown_bytes_are_a_defect_that_names_the_formats():
    assert "JPEG, PNG, WEBP, BMP, TIFF, GIF, PPM, AVIF, JPEG2000" in str(defect_of(b"\1\2\3\4" * 9))


@pytest.mark.parametrize("name", ["GIF", "PPM", "AVIF", "JPEG2000"])
def test_still_picture_of_another_format_is_taken(picture, name):
    content = encode(picture(width=20, height=10), format=name)
    facts = inspect(content)
    assert (facts.format, facts.width, facts.height) == (name, 20, 10)
    assert pixels(content).shape == (10, 20, 3)


def test_grey_and_plain_pictures_of_netpbm_are_taken():
    for content in (b"P2 8 8 255\n" + b"0 99 " * 32, b"P5 8 8 255\n" + bytes(range(64)), b"P4 8 8\n" + b"\x0f" * 8):
        assert inspect(content).format == "PPM"


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 10\n".encode(), "git lfs pull"),
        (b"/annex/objects/SHA256E-s3--" + b"ab" * 32 + b"\n", "git annex get"),
        (b"../.git/annex/objects/aa/bb/SHA256E-s3\n", "git annex get"),
        (b"outs:\n- md5: abc\n  path: x.png\n", "dvc pull"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "a HEIC image: save it as JPEG or PNG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(99), "a HEIC image: save it as JPEG or PNG"),
        (b"\0\0\0\x18ftypisom" + bytes(99), "a video"),
        (b"<!DOCTYPE html><title>403</title>", "a web page (HTML)"),
        (b"\n <html lang='en'>", "a web page (HTML)"),
        (b"<?xml version='1.0'?>\n<Error><Code>AccessDenied</Code></Error>", "XML, often what a server answers"),
        (b"<?xml version='1.0'?>\n<svg xmlns='x'/>", "a drawing (SVG): save it as PNG"),
        (b'{"message": "Not Found"}', "text (JSON)"),
        (b"%PDF-1.7\n" + bytes(40), "a PDF document: save its pages as images"),
        (b"PK\3\4" + bytes(40), "a zip archive"),
        (b"\x1f\x8b\x08" + bytes(40), "packed by gzip: unpack it"),
        (b"\x93NUMPY\1\0", "a NumPy array: save its images as PNG"),
        (b"\x80\4" + b"N.", "a Python pickle, which is never loaded"),
        (bytes(128) + b"DICM", "a DICOM image: save its pixels as PNG"),
        (bytes(5000), "nothing but zeros"),
        ("Grüße\n".encode(), "text that begins with 'Grüße'"),
        ("Grüße\n".encode("utf-16"), "text that begins with"),
        (b"P5 is the name of a text", "text that begins with"),
        (b"Python is one too", "text that begins with"),
    ],
)
def test_what_is_no_picture_is_named_for_what_it_is_with_what_to_do(content, detail):
    defect = defect_of(content)
    assert defect.reason == "not_an_image"
    assert detail in str(defect)


@pytest.mark.parametrize("kept", [0.1, 0.4, 0.9])
@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"subsampling": 2}, {"restart_marker_rows": 1}, {"mode": "L"}, {"mode": "CMYK"}],
)
def test_jpeg_whose_data_end_early_is_a_defect_though_it_has_an_end(picture, kept, options):
    options = dict(options)
    image = picture(width=8, height=8).resize((200, 200), 3).convert(options.pop("mode", "RGB"))
    content = encode(image, format="JPEG", quality=90, **options)
    inspect(content, max_image_pixels=10**6)
    if options.get("progressive") and kept > 0.8:
        return  # only the last bits of a few coefficients are missing
    start = content.index(b"\xff\xda")
    cut = content[: start + int((len(content) - start) * kept)] + b"\xff\xd9"
    assert defect_of(cut, max_image_pixels=10**6).reason == "truncated"


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_whole_jpeg_with_a_grey_end_is_no_defect(picture, mode, progressive):
    image = Image.new("RGB", (100, 100), (128, 128, 128))
    image.paste(picture(), (0, 0))
    content = encode(image.convert(mode), format="JPEG", quality=95, progressive=progressive)
    assert inspect(content).width == 100
    assert inspect(content + b"\xff\xd8 what some cameras append \xff\xd9").width == 100


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000"])
def test_half_a_file_is_a_defect(picture, name):
    content = encode(picture(width=40, height=40), format=name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damage too
        assert defect_of(content[: len(content) // 2]).reason == "truncated"


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "BMP", "AVIF", "JPEG2000"])
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


def test_pixels_in_a_colour_space_of_its_own_are_a_defect():
    assert defect_of(encode(Image.new("LAB", (16, 16)), format="TIFF")).reason == "unsupported_mode"


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


def test_tile_whose_size_only_the_decoder_reads_is_refused(monkeypatch):
    """Pillow skips numbers of type 17 (SLONG8), and libtiff makes room for as many px as they say."""
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.load", lambda image: pytest.fail("it was decoded"))
    side, data = 2**16, zlib.compress(bytes(100))
    places = {"side": 8 + len(data), "bits": 16 + len(data)}
    tags = [
        (256, 4, 1, 16), (257, 4, 1, 16), (258, 3, 4, places["bits"]), (259, 4, 1, 8), (262, 4, 1, 2), (277, 4, 1, 4),
        (322, 17, 1, places["side"]), (323, 17, 1, places["side"]), (324, 4, 1, 8), (325, 4, 1, len(data)),
        (338, 4, 1, 2),
    ]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    values = struct.pack("<q", side) + struct.pack("<4H", 8, 8, 8, 8)
    content = b"II" + struct.pack("<HI", 42, 8 + len(data) + len(values)) + data + values + directory
    defect = defect_of(content)
    assert (defect.reason, str(defect)) == (
        "unreadable", "the number of its tag TileWidth is of a type that no program writes"
    )  # fmt: skip


@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF", "GIF", "AVIF"])
def test_several_images_in_a_file_are_a_defect(picture, name):
    content = encode(picture(1), format=name, save_all=True, append_images=[picture(2)])
    assert defect_of(content).reason == "animated"


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000"])
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
    image = decode_sample(encode(Image.new("RGB", size, (10, 200, 30)), format="JPEG"), shorter_side=256)
    assert image.size == expected
    assert np.abs(np.asarray(image).astype(int) - (10, 200, 30)).max() <= 2


def test_jpeg_decoded_to_a_smaller_size_is_turned_upright():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    content = encode(Image.new("RGB", (1024, 600)), format="JPEG", exif=exif)
    assert decode_sample(content, shorter_side=256).size == (300, 512)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpegs_are_decoded_to_a_smaller_size_too(mode):
    image = decode_sample(encode(Image.new(mode, (1024, 1024)), format="JPEG"), shorter_side=256)
    assert (image.size, image.mode) == ((256, 256), "RGB")


def test_png_is_decoded_at_full_size():
    assert decode_sample(encode(Image.new("RGB", (1024, 1024)), format="PNG"), shorter_side=256).size == (1024, 1024)


def test_jpeg_whose_brightness_is_even_and_whose_colours_differ_is_not_blank():
    pixels = np.full((32, 32, 3), 128, np.uint8)  # in YCbCr
    pixels[:, 16:, 1] = 220
    assert (
        inspect(encode(Image.frombytes("YCbCr", (32, 32), pixels.tobytes()), format="JPEG", quality=95)).mode == "RGB"
    )


def test_jpeg_whose_colours_no_decoder_enlarges_is_a_defect_although_its_brightness_is_whole(picture):
    content = bytearray(encode(picture(width=48, height=48), format="JPEG", quality=95, subsampling=0))
    frame = content.index(b"\xff\xc0")
    content[frame + 11], content[frame + 14], content[frame + 17] = 0x31, 0x21, 0x11  # 3, 2 and 1 px wide
    assert defect_of(bytes(content)).reason == "unreadable"


def test_jpeg_whose_frame_lists_no_components_is_a_defect(picture):
    content = encode(picture(), format="JPEG")
    frame = content.index(b"\xff\xc0")
    assert defect_of(content[: frame + 2] + b"\0\x08" + content[frame + 4 : frame + 10] + content[frame + 19 :])
