"""Pictures: the bytes of a file in, RGB pixels or a named defect out."""

import io
import logging
import re
import struct
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tasks.data.samples.defects import DefectError
from tasks.images.options import SizeLimits

logger = logging.getLogger("graftline")

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "I")
# of a JPEG: among its coded pixels 0xff stands before a 0, another 0xff and a restart alone, and no decoder takes those below 0xc0
MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
MOST_SCANS = 100  # of a progressive JPEG, each a pass over all pixels; encoders make about ten, and a bomb thousands
LONGEST_TRAILER = 64 * 1024  # bytes that some programs leave behind the end of a picture
# of a PNG: notes, and a colour profile, which nobody asks for. Pillow refuses a file for long ones, and programs that make
# pictures note at length how they made them. Two kinds of note may hold the orientation, and stay
NOTES = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
ORIENTATION_NOTES = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What the file's bytes say of themselves; width and height in px, as stored (before EXIF orientation)."""

    format: str
    mode: str
    width: int
    height: int


def inspect_image(content: bytes, *, limits: SizeLimits) -> ImageFacts:
    """Decode the whole picture once. Raises DefectError naming what is wrong; sizes are checked on the header,
    before anything is decoded."""
    image = _open_within(content, limits)
    # a phone's JPEG with a second picture behind the first (MPO) is a JPEG
    facts = ImageFacts(
        format=str(image.format).replace("MPO", "JPEG"), mode=image.mode, width=image.width, height=image.height
    )
    try:
        if _has_second_frame(image):
            raise DefectError("animated", "the file holds several pictures, expected one")
        image.load()
        _to_rgb(image)
    except DefectError:
        raise
    except MemoryError:
        raise  # says something of the machine, not of the picture
    except Exception as error:  # a torn picture can make Pillow raise nearly anything
        raise _damage(content, error) from error
    return facts


def decode_image(content: bytes, *, shorter_side: int | None = None) -> Image.Image:
    """The picture as RGB, upright: EXIF orientation applied, transparency laid on white, grey repeated, 16 bits cut to
    their upper 8, print colours turned to screen colours without a profile, a palette looked up.

    With `shorter_side` (px), a JPEG that is at least twice as large as that is decoded to the half, the quarter or the
    eighth of each side, as small as it can be with so many px left.
    """
    return _decode(_open(content), content, shorter_side=shorter_side)


def decode_stranger(content: bytes, *, limits: SizeLimits, shorter_side: int | None) -> Image.Image:
    """`decode_image` of bytes that nobody has inspected. Raises DefectError naming what is wrong, as `inspect_image`
    does."""
    image = _open_within(content, limits)
    try:
        if _has_second_frame(image):
            raise DefectError("animated", "the file holds several pictures, expected one")
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
    """The picture, not decoded yet. Raises DefectError where its header says that it is none to be decoded."""
    if not content:
        raise DefectError("empty_file", "the file has no bytes")
    image = _open(content)
    size = f"{image.width} x {image.height} px"
    if min(image.size) < limits.min_image_size:
        raise DefectError("too_small", f"{size}, expected at least {limits.min_image_size} px")
    if image.width * image.height > limits.max_image_pixels:
        raise DefectError("too_many_pixels", f"{size}, expected at most {limits.max_image_pixels}")
    if image.format in ("JPEG", "MPO") and (scans := _num_scans(content)) > MOST_SCANS:
        raise DefectError("unreadable", f"a JPEG that is coded in {scans} scans, expected at most {MOST_SCANS}")
    if not _is_convertible(image.mode):
        raise DefectError("unsupported_mode", f"pixels of mode {image.mode}, expected grey, RGB, CMYK or a palette")
    return image


def _num_scans(content: bytes) -> int:
    """Of a JPEG up to its end: what stands behind that, as the film of a phone does, and what its notes hold, as they do a thumbnail,
    is none of it."""
    count, place = 0, 2
    while (found := MARKER.search(content, place)) and found[1][0] != END_OF_IMAGE:
        count += found[1][0] == START_OF_SCAN
        place = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
    return count


def _open(content: bytes) -> Image.Image:
    try:
        return _identified(_without_notes(content))
    except UnidentifiedImageError:
        kind = _kind(content)
        if kind:
            raise _damage(content, ValueError(f"it begins as {kind} does, and its header cannot be read")) from None
        detail = f"no picture in any of the formats {', '.join(FORMATS)}"
        if content.startswith(b"PAR1"):
            detail += "; a table of pictures is read where it is called .parquet and no labels.csv lies at the top of the batch"
        raise DefectError("not_an_image", detail) from None
    except Exception as error:  # a picture's header can make Pillow raise nearly anything
        raise _damage(content, error) from error


def _identified(content: bytes) -> Image.Image:
    """Return what `Image.open` does, without Pillow's limit of pixels, which holds for the whole process; ours is a parameter."""
    Image.init()
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept and accept(content[:16]) is not True:
            continue
        with suppress(SyntaxError, IndexError, TypeError, struct.error):  # as `Image.open` takes another format
            return factory(io.BytesIO(content), "")
    raise UnidentifiedImageError


def _without_notes(content: bytes) -> bytes:
    """Return a PNG without NOTES, other bytes as they are."""
    if not content.startswith(PNG_SIGNATURE):
        return content
    kept, place = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while place + 8 <= len(content):
        kind = content[place + 4 : place + 8]
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        if kind not in NOTES or content[place + 8 : end].startswith(ORIENTATION_NOTES):
            kept.append(content[place:end])
        place = end
    kept.append(content[place:])
    return b"".join(kept) if len(kept) > 2 else content


def _damage(content: bytes, error: Exception) -> DefectError:
    return DefectError("truncated" if _is_cut_off(content, str(error)) else "unreadable", _one_line(error))


def _kind(content: bytes) -> str:
    """The format as which the bytes begin, or nothing."""
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
    """Whether bytes that cannot be decoded lack what their format has at its end, or are fewer than they say."""
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
        case "TIFF":  # where its directory lies
            return int.from_bytes(content[4:8], "little" if content[:1] == b"I" else "big") >= len(content)
    return False


def _is_convertible(mode: str) -> bool:
    return mode in MODES or mode.startswith("I;16")


def _has_second_frame(image: Image.Image) -> bool:
    if image.format != "TIFF":
        return image.format != "MPO" and getattr(image, "is_animated", False)
    try:
        image.seek(1)  # not n_frames, which follows the pages to the last
    except EOFError:
        return False
    return True


def _upright(image: Image.Image) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:
        logger.debug("a damaged EXIF block: the pixels stay as they are stored")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
