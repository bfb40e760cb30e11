"""Spread the values of a deep image by the range that its file declares or uses, colours too."""

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from tasks.images.decoding.depth import to_8_bits
from tasks.images.decoding.opening import identified, without_notes

MOST_UPPER = 63  # of an image of 16 bits a colour that uses no more than 14 of them: the largest of its upper 8 bits
# Pillow's names of colours in 16 bits, and of the same bytes in the other order; N is the machine's own
_OTHER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
EXCHANGED = {f"{c};16{o}": f"{c};16{_OTHER[o]}" for c in ("RGB", "RGBA", "RGBX") for o in "LBN"}
BITS_PER_SAMPLE, MAX_SAMPLE_VALUE = 258, 281  # tags of TIFF


def declared_range(image: Image.Image, content: bytes, tiles: Sequence[Any]) -> int | None:
    """Return the largest value that a deep image can have by its own words; None if it says nothing."""
    if image.format == "PNG":
        place = content.find(b"sBIT", 0, max(content.find(b"IDAT"), 0))
        bits = content[place + 4] if place > 0 else 0
        return 2**bits - 1 if 8 < bits < 16 else None
    if image.format == "PPM" and tiles and tiles[0].codec_name != "raw" and tiles[0].args[-1] < 2**16 - 1:
        return 2**16 - 1  # to which Pillow spreads what the header declares
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        largest = tags.get(MAX_SAMPLE_VALUE)
        by_bits = [2**bits - 1 for bits in tags.get(BITS_PER_SAMPLE, ()) if isinstance(bits, int) and 8 < bits < 16]
        return max(by_bits or [value for value in largest or () if isinstance(value, int) and value > 0], default=None)
    return None


def spread_colours(image: Image.Image, content: bytes, tiles: Sequence[Any], *, declared: int | None) -> None:
    """Spread the colours of an image of 16 bits that uses at most 14 of them, in place.

    Pillow gives the upper 8 bits of each; the lower ones come from decoding once more, with the bytes exchanged.
    """
    if image.mode not in ("RGB", "RGBA") or not tiles:
        return
    rawmode, *options = (tiles[0].args,) if isinstance(tiles[0].args, str) else tiles[0].args or ("",)
    is_deep = ";16" in rawmode or (tiles[0].codec_name == "ppm" and options[-1:] == [2**16 - 1])
    if not is_deep:
        return
    channels: Any = image.getextrema()
    if max(largest for _, largest in channels[:3]) > MOST_UPPER:
        return
    size = image.height, image.width
    if tiles[0].codec_name == "ppm":
        deep = np.frombuffer(content, ">u2", count=3 * math.prod(size), offset=tiles[0].offset).reshape(*size, 3)
    elif rawmode == "LA;16B":  # read as four bytes a px
        bytes_of = np.asarray(_exchanged(content, "RGBA")).astype(np.uint16)
        deep = (bytes_of[..., ::2] << 8 | bytes_of[..., 1::2])[..., [0, 0, 0, 1]]
    elif (exchanged := EXCHANGED.get(rawmode)) is not None:
        deep = np.asarray(image).astype(np.uint16) << 8 | np.asarray(_exchanged(content, exchanged))
    else:
        return
    shallow = [to_8_bits(deep[..., :3], declared=declared), *(to_8_bits(deep[..., 3:]) for _ in image.getbands()[3:])]
    image.paste(Image.fromarray(np.concatenate(shallow, axis=2)))


def _exchanged(content: bytes, rawmode: str) -> Image.Image:
    """Return the image, decoded as if its pixels were stored in `rawmode`."""
    image: Any = identified(without_notes(content))
    image.tile = [
        tile._replace(args=rawmode if isinstance(tile.args, str) else (rawmode, *tile.args[1:])) for tile in image.tile
    ]
    image.load()
    return image  # type: ignore[no-any-return]
