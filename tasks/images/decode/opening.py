"""Open an image file without decoding it, or name its defect."""

import io
import struct
import zlib
from contextlib import suppress

# the import registers the decoders of FORMATS; `Image.init` would import four times as many
from PIL import (  # noqa: F401
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from tasks.data.samples.defects import DefectError
from tasks.images.decode.other_files import what_it_is

# by Pillow's names. Left out are formats that Pillow hands to other programs (EPS), that it recognises by guessing
# (TGA), that hold several pictures (ICO, PSD), and that are so rare that their decoders are more risk than use
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000")
CODESTREAM = b"\xff\x4f\xff\x51"  # the first bytes of JPEG 2000, in its box or without
LONGEST_TRAILER = 64 * 1024  # bytes that some programs append to an image
# chunks of a PNG that are not needed: notes and a colour profile. Pillow refuses a file with long notes, and programs
# that generate images write long ones. Two kinds of note may hold the orientation, and are kept
NOTES = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
ORIENTATION_NOTES = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
MOST_NOTE_BYTES = 2**20  # Pillow's own limit
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def open_image(content: bytes) -> Image.Image:
    """Return the image, not decoded yet. Raises DefectError if it is none, or its header cannot be read."""
    try:
        return identified(without_notes(content))
    except UnidentifiedImageError:
        kind = _kind(content)
        if kind:
            raise damage(content, ValueError(f"it begins like {kind}, but its header cannot be read")) from None
        detail = what_it_is(content) or f"not an image in any of the formats {', '.join(FORMATS)}"
        raise DefectError("not_an_image", detail) from None
    except Exception as error:  # a header can make Pillow raise nearly any error
        raise damage(content, error) from error


def identified(content: bytes) -> Image.Image:
    """Return the result of `Image.open`, without Pillow's limit of pixels.

    That limit holds for the whole process; ours is a parameter.
    """
    for name in FORMATS:
        _, accept = Image.OPEN[name]
        if accept and accept(content[:16]) is not True:
            continue
        with suppress(SyntaxError, IndexError, TypeError, struct.error):  # like `Image.open`, try the next format
            return _opened(name, content)
    raise UnidentifiedImageError


class _Jpeg(JpegImagePlugin.JpegImageFile):
    """A JPEG without its resolution in dpi, because finding that in an EXIF block takes longer than all other steps."""

    def _read_dpi_from_exif(self) -> None:
        pass


def _opened(name: str, content: bytes) -> Image.Image:
    factory, _ = Image.OPEN[name]
    try:
        # several images in one JPEG (MPO) are left to Pillow
        if name == "JPEG" and "mp" not in (image := _Jpeg(io.BytesIO(content), "")).info:
            return image
        return factory(io.BytesIO(content), "")
    except ValueError as error:
        if name == "PPM":  # many a text begins like one, such as "P5 is …"
            raise SyntaxError from error
        raise


def without_notes(content: bytes) -> bytes:
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


def damage(content: bytes, error: Exception) -> DefectError:
    """Return the defect behind an error of Pillow."""
    if isinstance(error, Image.DecompressionBombError):  # of a part that is larger than the header of the file says
        return DefectError("too_many_pixels", _one_line(error))
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
    if content.startswith(b"GIF8"):
        return "GIF"
    if content[4:8] == b"ftyp" and b"avif" in content[8:64]:
        return "AVIF"
    if content.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", CODESTREAM)):
        return "JPEG 2000"
    return "TIFF" if content.startswith((b"II*\0", b"MM\0*")) else ""


def _is_cut_off(content: bytes, message: str) -> bool:
    """Return whether undecodable bytes lack the end of their format, or are fewer than their header claims."""
    if "truncated" in message.lower() or "not enough" in message.lower():
        return True
    tail = content[-LONGEST_TRAILER:]
    match _kind(content):
        case "JPEG" | "JPEG 2000":
            return b"\xff\xd9" not in tail
        case "PNG":
            return b"IEND" not in tail
        case "WebP":
            return int.from_bytes(content[4:8], "little") + 8 > len(content)
        case "AVIF":
            return _end_of_boxes(content) > len(content)
        case "BMP":
            return int.from_bytes(content[2:6], "little") > len(content)
        case "TIFF":  # the place of its directory
            return int.from_bytes(content[4:8], "little" if content[:1] == b"I" else "big") >= len(content)
    return False


def _end_of_boxes(content: bytes) -> int:
    """Return where the boxes of an ISO media file end by their own sizes."""
    place = 0
    while place + 8 <= len(content) and (size := int.from_bytes(content[place : place + 4], "big")) >= 8:
        place += size
    return place


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
