"""Read from a JPEG what Pillow does not report: the number of its scans, and whether its data are complete."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image

# in coded pixels, only 0, another 0xff or a restart follow 0xff, and no decoder accepts markers below 0xc0
MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of a frame; the others are tables
PROGRESSIVE = (0xC2, 0xCA)
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
NUM_COEFFICIENTS = 64  # of a block, in a component
GREY = range(127, 129)  # libjpeg's filling of a picture whose data end: 128, or 127 in an inverted CMYK
FILLER = bytes(range(1, 255)) * 4  # for the coded pixels that are not there, if any are missing


@dataclass(frozen=True, kw_only=True)
class Scans:
    """The scans of a JPEG that its decoder reads.

    Data behind the end marker, such as a phone's film, and in notes, such as a thumbnail, does not count.
    """

    count: int
    is_whole: bool  # they give each coefficient of each component to its last bit


def scans_of(content: bytes) -> Scans:
    """Return the scans of a JPEG, without decoding them."""
    count = 0
    # for each component the bits that its coefficients lack; an empty entry lacks all of them
    missing: dict[int, list[int | None]] = {}
    num_coefficients, frame = 1, b""
    for kind, start, end in _segments(content):
        if kind == START_OF_SCAN:
            count += 1
            segment = content[start + 3 : end]
            *components, first, last, bits = segment if len(segment) > 4 else bytes(3)
            if num_coefficients == 1 and bytes(components[::2]) == frame:
                return Scans(count=count, is_whole=True)  # all is in this scan, and libjpeg refuses another
            for lacks in (missing[component] for component in components[::2] if component in missing):
                if num_coefficients == 1:
                    lacks[0] = 0
                else:
                    lacks[first : last + 1] = [bits & 15] * len(lacks[first : last + 1])
        elif kind in FRAMES:
            num_coefficients = NUM_COEFFICIENTS if kind in PROGRESSIVE else 1  # a scan gives all at once
            frame = content[start + 8 : end : 3]
            missing = {component: [None] * num_coefficients for component in frame}
    is_whole = not any(lack or lack is None for lacks in missing.values() for lack in lacks)
    return Scans(count=count, is_whole=is_whole)


def is_cut(image: Image.Image, content: bytes, *, decode: Callable[[bytes], Image.Image]) -> bool:
    """Return whether the data of a decoded JPEG end before the picture does.

    libjpeg does not report that, and fills the rest with grey. So if the last pixel has that grey, further data are
    put behind those that are there: if the decoder still needs data, the picture changes.

    Args:
        decode: decodes a JPEG, best to a small size.
    """
    last = image.getpixel((image.width - 1, image.height - 1))
    if not all(value in GREY for value in (last if isinstance(last, tuple) else (last,))):
        return False
    end = _end_of_image(content)
    return decode(content).tobytes() != decode(content[:end] + FILLER + content[end:]).tobytes()


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the marker of each segment before the end marker, and the places where its content starts and ends."""
    place = 2
    while (marker := MARKER.search(content, place)) and (kind := marker[1][0]) != END_OF_IMAGE:
        start = marker.end()
        place = start + int.from_bytes(content[start : start + 2], "big")
        yield kind, start, place


def _end_of_image(content: bytes) -> int:
    """Return the place of the end marker; the length of the content if there is none."""
    place = 2
    for _, _, end in _segments(content):
        place = end
    marker = MARKER.search(content, place)
    return marker.start() if marker else len(content)
