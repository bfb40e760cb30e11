"""Read from a TIFF what Pillow does not report: the type in which each tag of its directory is written."""

import struct
from collections.abc import Iterator

BIG = 43  # the version of a BigTIFF, with longer places and counts
# tags from which libtiff takes the room for the pixels: sides, bits and samples of the image, sides of a tile
SHAPING = {
    256: "ImageWidth", 257: "ImageLength", 258: "BitsPerSample", 277: "SamplesPerPixel", 284: "PlanarConfiguration",
    322: "TileWidth", 323: "TileLength",
}  # fmt: skip
UNSIGNED = (3, 4, 16)  # SHORT, LONG and LONG8: both Pillow and libtiff read these


def odd_tag(content: bytes) -> str:
    """Return the name of a tag whose number only libtiff reads, so that our limits do not apply to it; "" if none."""
    return next((SHAPING[tag] for tag, kind in _directory(content) if tag in SHAPING and kind not in UNSIGNED), "")


def _directory(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield the tags of the first directory, each with the number of its type."""
    order = "<" if content.startswith(b"II") else ">"
    is_big = BIG in content[2:4]
    place_of, count_of, entry = ("Q", "Q", 20) if is_big else ("I", "H", 12)
    try:
        [place] = struct.unpack_from(order + place_of, content, 8 if is_big else 4)
        [count] = struct.unpack_from(order + count_of, content, place)
        first = place + struct.calcsize(order + count_of)
        for number in range(min(count, len(content) // entry)):
            yield struct.unpack_from(f"{order}HH", content, first + entry * number)
    except struct.error:  # the file ends before its directory, and its decoder reports that
        return
