"""Decode the bytes of an image file to RGB pixels, or name their defect."""

import io
import logging
import re
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tasks.data.samples.defects import DefectError
from tasks.images.options import SizeLimits

logger = logging.getLogger("graftline")

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "I")
# a marker of a JPEG: in coded pixels, only 0, another 0xff or a restart follow 0xff, and no decoder accepts markers
# below 0xc0
MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
MOST_SCANS = 100  # of a progressive JPEG; each is a pass over all pixels. Encoders make about ten, a bomb thousands
LONGEST_TRAILER = 64 * 1024  # bytes that some programs append to an image
# chunks of a PNG that are not needed: notes and a colour profile. Pillow refuses a file with long notes, and programs
# that generate images write long ones. Two kinds of note may hold the orientation, and are kept
NOTES = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
ORIENTATION_NOTES = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
MOST_NOTE_BYTES = 2**20  # Pillow's own limit
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """The facts in an image file; width and height in px, as stored (before EXIF orientation)."""

    format: str
    mode: str
    width: int
    height: int


def inspect_image(content: bytes, *, limits: SizeLimits) -> ImageFacts:
    """Decode the whole image once and return its facts.

    Sizes are checked in the header, before anything is decoded.

    Raises:
        DefectError: the image cannot be used, with the reason.
    """
    image = _open_within(content, limits)
    # a phone's JPEG with a second image behind the first (MPO) counts as a JPEG
    facts = ImageFacts(
        format=str(image.format).replace("MPO", "JPEG"), mode=image.mode, width=image.width, height=image.height
    )
    try:
        if _has_second_frame(image):
            raise DefectError("animated", "the file holds several images, expected one")
        image.load()
        _to_rgb(image)
    except DefectError:
        raise
    except MemoryError:
        raise  # the machine is the cause, not the image
    except Exception as error:  # a torn image can make Pillow raise nearly any error
        raise _damage(content, error) from error
    return facts


def decode_image(content: bytes, *, shorter_side: int | None = None) -> Image.Image:
    """Return the image as RGB: upright by its EXIF orientation, with transparency on white.

    Grey is repeated in every channel, 16 bits are cut to their upper 8, a palette is looked up, and CMYK is converted
    without a colour profile.

    With `shorter_side` (px), a JPEG of at least twice that size is decoded to a half, a quarter or an eighth of each
    side: the smallest whose shorter side is not below `shorter_side`.
    """
    return _decode(_open(content), content, shorter_side=shorter_side)


def decode_stranger(content: bytes, *, limits: SizeLimits, shorter_side: int | None) -> Image.Image:
    """Return `decode_image` of bytes that were not inspected before.

    Raises:
        DefectError: the image cannot be used, with the reason, as from `inspect_image`.
    """
    image = _open_within(content, limits)
    try:
        if _has_second_frame(image):
            raise DefectError("animated", "the file holds several images, expected one")
    except (DefectError, MemoryError):
        raise
    except Exception as error:
        raise _damage(content, error) from error
    return _decode(image, content, shorter_side=shorter_side)


def _decode(image: Image.Image, content: bytes, *, shorter_side: int | None) -> Image.Image:
    try:
        if shorter_side is not None:
            image.draft(image.mode, (shorter_side, shorter_side))
        image.load()
        _upright(image)
        return _to_rgb(image)
    except MemoryError:
        raise
    except Exception as error:
        raise _damage(content, error) from error


def _open_within(content: bytes, limits: SizeLimits) -> Image.Image:
    """Return the image, not decoded yet. Raises DefectError if its header shows that it cannot be used."""
    if not content:
        raise DefectError("empty_file", "the file has no bytes")
    image = _open(content)
    size = f"{image.width} x {image.height} px"
    if min(image.size) < limits.min_image_size:
        raise DefectError("too_small", f"{size}, expected at least {limits.min_image_size} px")
    if image.width * image.height > limits.max_image_pixels:
        raise DefectError("too_many_pixels", f"{size}, expected at most {limits.max_image_pixels}")
    if image.format in ("JPEG", "MPO") and (scans := _num_scans(content)) > MOST_SCANS:
        raise DefectError("unreadable", f"a JPEG of {scans} scans, expected at most {MOST_SCANS}")
    if not _is_convertible(image.mode):
        raise DefectError("unsupported_mode", f"pixels of mode {image.mode}, expected grey, RGB, CMYK or a palette")
    return image


def _num_scans(content: bytes) -> int:
    """Return the number of scans of a JPEG up to its end marker.

    Data behind that marker, such as a phone's film, and in its notes, such as a thumbnail, does not count.
    """
    count, place = 0, 2
    while (marker := MARKER.search(content, place)) and marker[1][0] != END_OF_IMAGE:
        count += marker[1][0] == START_OF_SCAN
        place = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")
    return count


def _open(content: bytes) -> Image.Image:
    try:
        return _identified(_without_notes(content))
    except UnidentifiedImageError:
        kind = _kind(content)
        if kind:
            raise _damage(content, ValueError(f"it begins like a {kind}, but its header cannot be read")) from None
        detail = f"not an image in any of the formats {', '.join(FORMATS)}"
        if content.startswith(b"PAR1"):
            detail += (
                "; a table of images is read if its name ends in .parquet and the batch has no labels.csv at the top"
            )
        raise DefectError("not_an_image", detail) from None
    except Exception as error:  # a header can make Pillow raise nearly any error
        raise _damage(content, error) from error


def _identified(content: bytes) -> Image.Image:
    """Return what `Image.open` returns, without Pillow's limit of pixels.

    That limit holds for the whole process; ours is a parameter.
    """
    Image.init()
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept and accept(content[:16]) is not True:
            continue
        with suppress(SyntaxError, IndexError, TypeError, struct.error):  # like `Image.open`, try the next format
            return factory(io.BytesIO(content), "")
    raise UnidentifiedImageError


def _without_notes(content: bytes) -> bytes:
    """Return a PNG without NOTES; bytes that are not a PNG, and all behind its end, stay as they are."""
    if not content.startswith(PNG_SIGNATURE):
        return content
    kept, start, place = [], 0, len(PNG_SIGNATURE)
    while place + 8 <= len(content) and (kind := content[place + 4 : place + 8]) != b"IEND":
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        if kind in NOTES and not _holds_orientation(kind, content[place + 8 : end - 4]):
            kept.append(content[start:place])
            start = end
        place = end
    return b"".join([*kept, content[start:]]) if kept else content


def _holds_orientation(kind: bytes, note: bytes) -> bool:
    """Return whether a note may hold the orientation and is small enough, decompressed, that Pillow reads it."""
    if not note.startswith(ORIENTATION_NOTES):
        return False
    text = note[note.index(b"\0") + 1 :]
    if kind == b"zTXt":
        packed = text[1:]
    elif kind == b"iTXt" and text[:1] == b"\1":
        packed = text[2:].split(b"\0", 2)[-1]
    else:
        return True
    with suppress(zlib.error):
        return len(zlib.decompressobj().decompress(packed, MOST_NOTE_BYTES + 1)) <= MOST_NOTE_BYTES
    return False


def _damage(content: bytes, error: Exception) -> DefectError:
    return DefectError("truncated" if _is_cut_off(content, str(error)) else "unreadable", _one_line(error))


def _kind(content: bytes) -> str:
    """Return the format whose first bytes the content has, or ""."""
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if content.startswith(b"\x89PNG"):
        return "PNG"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "WebP"
    if content.startswith(b"BM"):
        return "BMP"
    return "TIFF" if content.startswith((b"II*\0", b"MM\0*")) else ""


def _is_cut_off(content: bytes, message: str) -> bool:
    """Return whether undecodable bytes lack the end of their format, or are fewer than their header claims."""
    if "truncated" in message.lower() or "not enough" in message.lower():
        return True
    tail = content[-LONGEST_TRAILER:]
    match _kind(content):
        case "JPEG":
            return b"\xff\xd9" not in tail
        case "PNG":
            return b"IEND" not in tail
        case "WebP":
            return int.from_bytes(content[4:8], "little") + 8 > len(content)
        case "BMP":
            return int.from_bytes(content[2:6], "little") > len(content)
        case "TIFF":  # the place of its directory
            return int.from_bytes(content[4:8], "little" if content[:1] == b"I" else "big") >= len(content)
    return False


def _is_convertible(mode: str) -> bool:
    return mode in MODES or mode.startswith("I;16")


def _has_second_frame(image: Image.Image) -> bool:
    if image.format != "TIFF":
        return image.format != "MPO" and getattr(image, "is_animated", False)
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


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
