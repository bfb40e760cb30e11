"""Spread the values of a deep image by the range that its file declares or uses, colours too."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from tasks.images.decode.depth import range_of, spread, strips
from tasks.images.decode.opening import identified, without_notes

MOST_UPPER = 63  # of an image of 16 bits a colour that uses no more than 14 of them: the largest of its upper 8 bits
# Pillow's names of colours in 16 bits, and of the same bytes in the other order; N is the machine's own
_OTHER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
EXCHANGED = {f"{c};16{o}": f"{c};16{_OTHER[o]}" for c in ("RGB", "RGBA", "RGBX") for o in "LBN"}
GREY_AND_ALPHA = "LA;16B"  # which Pillow decodes to RGBA
DeepRows = Callable[[slice], Any]  # rows -> their values, (n, width, channels) uint16
BITS_PER_SAMPLE, MAX_SAMPLE_VALUE = 258, 281  # tags of TIFF


def declared_range(image: Image.Image, content: bytes, tiles: Sequence[Any]) -> int | None:
    """Return the largest value of a deep image by its own declaration; None if it declares none."""
    if image.format == "PNG":
        place = content.find(b"sBIT", 0, max(content.find(b"IDAT"), 0))
        bits = content[place + 4] if place > 0 else 0
        return 2**bits - 1 if 8 < bits < 16 else None
    if image.format == "PPM" and tiles and tiles[0].codec_name != "raw" and tiles[0].args[-1] < 2**16 - 1:
        return 2**16 - 1  # to which Pillow spreads the declared range
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
    is_netpbm = tiles[0].codec_name == "ppm" and options[-1:] == [2**16 - 1]
    if not (is_netpbm or rawmode == GREY_AND_ALPHA or rawmode in EXCHANGED):
        return
    upper: Any = image.getextrema()
    if max(largest for _, largest in upper[:3]) > MOST_UPPER:
        return
    deep: DeepRows
    if is_netpbm:
        whole = np.frombuffer(content, ">u2", count=3 * image.width * image.height, offset=tiles[0].offset)
        deep = whole.reshape(image.height, image.width, 3).__getitem__
    else:
        deep = _deep_rows(image, content, rawmode)
    rows = list(strips(image.height, image.width))
    largest = np.max([deep(part).max(axis=(0, 1)) for part in rows], axis=0)  # (channels,)
    _, top = range_of(0, int(largest[:3].max()), is_real=False, declared=declared)
    tops = [top] * 3 + [range_of(0, int(most), is_real=False, declared=None)[1] for most in largest[3:]]  # then alpha
    for part in rows:
        image.paste(Image.fromarray(spread(deep(part), bottom=0, top=np.array(tops))), (0, part.start))


def _deep_rows(image: Image.Image, content: bytes, rawmode: str) -> DeepRows:
    """Return the values of rows of an image by both of their bytes."""
    exchanged = _exchanged(content, EXCHANGED.get(rawmode, "RGBA"))

    def deep(rows: slice) -> Any:
        box = (0, rows.start, image.width, rows.stop)
        lower = np.asarray(exchanged.crop(box)).astype(np.uint16)
        if rawmode == GREY_AND_ALPHA:  # decoded as four bytes a px
            return (lower[..., ::2] << 8 | lower[..., 1::2])[..., [0, 0, 0, 1]]
        return np.asarray(image.crop(box)).astype(np.uint16) << 8 | lower

    return deep


def _exchanged(content: bytes, rawmode: str) -> Image.Image:
    """Return the image, decoded as if its pixels were stored in `rawmode`."""
    image: Any = identified(without_notes(content))
    image.tile = [
        tile._replace(args=rawmode if isinstance(tile.args, str) else (rawmode, *tile.args[1:])) for tile in image.tile
    ]
    image.load()
    return image  # type: ignore[no-any-return]
