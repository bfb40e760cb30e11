"""Decode the bytes of an image file to RGB pixels, or name their defect."""

import logging
import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from tasks.data.samples.contents import read_content as read  # noqa: F401  of the shape of a room
from tasks.data.samples.defects import DefectError
from tasks.images.decode.deep_colours import declared_range, spread_colours
from tasks.images.decode.depth import to_8_bits
from tasks.images.decode.jpeg import is_cut, scans_of
from tasks.images.decode.opening import CODESTREAM, damage, identified, open_image
from tasks.images.decode.other_files import ENDINGS as ENDINGS
from tasks.images.decode.tiff import odd_tag
from tasks.images.facts import Facts
from tasks.images.options import SizeLimits

logger = logging.getLogger("graftline")

NOT_ONE = ("not_an_image", "empty_file")  # reasons of bytes that do not begin like an image
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "I", "F")
MOST_SCANS = 100  # of a progressive JPEG; each is a pass over all pixels. Encoders make about ten, a bomb thousands
MOST_TILE_PX = 2**22  # of a TIFF, which is read a whole tile at once; more only where the image itself has half of it
LEAST_SPREAD = 4  # of 255 levels, between the darkest and the brightest value of a channel
NEARLY_GREY = range(120, 136)  # the brightness of the last pixel of a cut JPEG lies well within
FEW_PX = 8  # which show for most images that they are not blank
PX_AT_ONCE = 2**22  # that are laid on white together
TILE_WIDTH, TILE_LENGTH = 322, 323  # tags of TIFF


def inspect_content(content: bytes, *, limits: SizeLimits) -> Facts:
    """Decode the whole image once and return its facts.

    Sizes are checked in the header, before anything is decoded. For a JPEG only the brightness is decoded where it
    shows that the picture is whole and not blank. Else the colours are decoded, too.

    Raises:
        DefectError: the image cannot be used, with the reason.
    """
    image = _open_within(content, limits)
    # a phone's JPEG with a second image behind the first (MPO) counts as a JPEG
    facts = Facts(
        format=str(image.format).replace("MPO", "JPEG"), mode=image.mode, width=image.width, height=image.height
    )
    if not _is_clear_in_grey(image):
        _decode_opened(_open_within(content, limits), content, shorter_side=None, is_turned=False)
    return facts


def decode_sample(content: bytes, *, shorter_side: int | None = None) -> Image.Image:
    """Return the image as RGB: upright by its EXIF orientation, with transparency on white.

    Grey is repeated in every channel, more than 8 bits are spread over 8 (see `tasks.images.decode.depth`), a palette
    is looked up, and CMYK is converted without a colour profile.

    With `shorter_side` (px), a JPEG of at least twice that size is decoded to a half, a quarter or an eighth of each
    side: the smallest whose shorter side is not below `shorter_side`.
    """
    image = open_image(content)
    try:
        return _rgb(image, content, tiles=_load(image, shorter_side=shorter_side), is_turned=True)
    except MemoryError:
        raise
    except Exception as error:
        raise damage(content, error) from error


def decode_stranger(content: bytes, *, limits: SizeLimits, shorter_side: int | None) -> Image.Image:
    """Return the result of `decode_sample` for bytes that were not inspected before.

    Raises:
        DefectError: the image cannot be used, with the reason, as from `inspect_content`.
    """
    return _decode_opened(_open_within(content, limits), content, shorter_side=shorter_side, is_turned=True)


def _is_clear_in_grey(image: Image.Image) -> bool:
    """Return whether the brightness of a JPEG, decoded alone, shows that it is neither damaged, cut nor blank.

    All its data are read, but the colours are not computed, which takes more than a third of the time. The brightness
    is a mean of the channels: where it differs, a channel does.
    """
    if image.format != "JPEG" or image.mode != "RGB" or not _divides_sampling(image):
        return False
    image.draft("L", None)
    try:
        pixels: Any = image.load()
    except MemoryError:
        raise
    except Exception:  # decoding the whole image reports the defect
        return False
    width, height = image.size
    levels = [pixels[width * n // FEW_PX, height * n // FEW_PX] for n in range(FEW_PX)]
    is_blank = max(levels) - min(levels) < 2 * LEAST_SPREAD  # twice, because of rounding
    return not is_blank and pixels[width - 1, height - 1] not in NEARLY_GREY


def _divides_sampling(image: Image.Image) -> bool:
    """Return whether each component of a JPEG is a whole fraction as wide and as high as the largest one.

    libjpeg refuses the others, but not where it leaves the colours out.
    """
    layers: Any = image.layer  # type: ignore[attr-defined]
    widths, heights = ([layer[place] for layer in layers] for place in (1, 2))
    return all(side and max(sides) % side == 0 for sides in (widths, heights) for side in sides)


def _decode_opened(image: Image.Image, content: bytes, *, shorter_side: int | None, is_turned: bool) -> Image.Image:
    """Return the result of `decode_sample`, upright if `is_turned`.

    Raises:
        DefectError: the image is damaged, one of several in its file, or blank.
    """
    try:
        if _has_second_frame(image):
            raise DefectError("animated", "the file holds several images, expected one")
        tiles = _load(image, shorter_side=shorter_side)
        if image.format in ("JPEG", "MPO") and is_cut(image, content, decode=_decoded_small):
            raise DefectError("truncated", "its data end before the picture does, and the rest would be grey")
        decoded = _rgb(image, content, tiles=tiles, is_turned=is_turned)
        spread = LEAST_SPREAD if _few_px_differ(decoded) else _spread(decoded)
    except DefectError:
        raise
    except MemoryError:
        raise  # the machine is the cause, not the image
    except Exception as error:  # a torn image can make Pillow raise nearly any error
        raise damage(content, error) from error
    if spread < LEAST_SPREAD:
        raise DefectError(
            "blank",
            f"its values differ by {spread} of 255 levels, expected at least {LEAST_SPREAD}: there is nothing to see",
        )
    return decoded


def _decoded_small(content: bytes) -> Image.Image:
    image = identified(content)
    _load(image, shorter_side=1)
    return image


def _load(image: Image.Image, *, shorter_side: int | None) -> list[Any]:
    """Decode the image, and return its tiles: Pillow's notes of how the pixels are stored."""
    if shorter_side is not None:
        image.draft(image.mode, (shorter_side, shorter_side))
    tiles = list(image.tile)  # type: ignore[attr-defined]
    image.load()
    return tiles


def _rgb(image: Image.Image, content: bytes, *, tiles: Sequence[Any], is_turned: bool) -> Image.Image:
    """Return a loaded image as `decode_sample` does, upright if `is_turned`."""
    declared = declared_range(image, content, tiles)
    spread_colours(image, content, tiles, declared=declared)
    if is_turned:
        _upright(image)
    return _to_rgb(image, declared=declared)


def _few_px_differ(image: Image.Image) -> bool:
    """Return whether FEW_PX of an RGB image, from corner to corner, show that it is not blank."""
    pixels: Any = image.load()
    width, height = image.size
    reds, greens, blues = zip(*[pixels[width * n // FEW_PX, height * n // FEW_PX] for n in range(FEW_PX)], strict=True)
    return any(max(levels) - min(levels) >= LEAST_SPREAD for levels in (greens, reds, blues))


def _spread(image: Image.Image) -> int:
    """Return the levels between the least and the largest value of a channel of an RGB image."""
    return max(int(largest - least) for least, largest in image.getextrema())  # type: ignore[misc]


def _open_within(content: bytes, limits: SizeLimits) -> Image.Image:
    """Return the image, not decoded yet. Raises DefectError if its header shows that it cannot be used."""
    if not content:
        raise DefectError("empty_file", "the file has no bytes")
    image = open_image(content)
    width, height = image.size
    if min(width, height) < limits.min_image_size:
        raise DefectError("too_small", f"{width} x {height} px, expected at least {limits.min_image_size} px")
    if width * height > limits.max_image_pixels:
        raise DefectError("too_many_pixels", f"{width} x {height} px, expected at most {limits.max_image_pixels}")
    if image.format in ("JPEG", "MPO"):
        scans = scans_of(content)
        if scans.count > MOST_SCANS:
            raise DefectError("unreadable", f"a JPEG of {scans.count} scans, expected at most {MOST_SCANS}")
        if not scans.is_whole:
            raise DefectError("truncated", "some scans of the JPEG are missing, so that the picture would be coarse")
    if image.format == "TIFF" and (tag := odd_tag(content)):
        raise DefectError("unreadable", f"the number of its tag {tag} is of a type that no program writes")
    if (promised := _promised_px(image, content)) > max(MOST_TILE_PX, 2 * width * height):
        raise DefectError("too_many_pixels", f"{width} x {height} px in the header, but its data are of {promised} px")
    if not _is_convertible(image.mode):
        raise DefectError("unsupported_mode", f"pixels of mode {image.mode}, expected grey, RGB, CMYK or a palette")
    return image


def _promised_px(image: Image.Image, content: bytes) -> int:
    """Return the px that the decoder allocates, where a file states them apart from the size of its image."""
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        sides = [tags.get(tag, 0) for tag in (TILE_WIDTH, TILE_LENGTH)]
        return math.prod(side if isinstance(side, int) else 0 for side in sides)
    if image.format == "JPEG2000":
        areas = [(right - left) * (bottom - top) for right, bottom, left, top in _codestream_sizes(content)]
        return max(areas, default=0)
    return 0


def _codestream_sizes(content: bytes) -> Iterator[tuple[int, ...]]:
    """Yield right, bottom, left and top of the grid of each codestream of JPEG 2000; its box has a size of its own."""
    place = -1
    while (place := content.find(CODESTREAM, place + 1)) >= 0 and place + 24 <= len(content):
        yield struct.unpack(">4I", content[place + 8 : place + 24])


def _is_convertible(mode: str) -> bool:
    return mode in MODES or mode.startswith("I;16")


def _has_second_frame(image: Image.Image) -> bool:
    if image.format != "TIFF":
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    try:
        image.seek(1)  # not n_frames, which reads all pages
    except EOFError:
        return False
    return True


def _upright(image: Image.Image) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:
        logger.debug("ignored a damaged EXIF block: the image is not turned")


def _to_rgb(image: Image.Image, *, declared: int | None) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(to_8_bits(np.asarray(image), declared=declared))
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    laid = Image.new("RGB", image.size)
    rows = max(PX_AT_ONCE // image.width, 1)
    for top in range(0, image.height, rows):
        part = image.crop((0, top, image.width, min(top + rows, image.height))).convert("RGBA")
        laid.paste(Image.alpha_composite(Image.new("RGBA", part.size, "white"), part).convert("RGB"), (0, top))
    return laid
