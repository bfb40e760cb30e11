"""Pictures: the bytes of a file in, RGB pixels or a named defect out."""

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
Image.MAX_IMAGE_PIXELS = None  # inspect_image has a limit of its own, which params.yaml sets
READ_AHEAD = 64  # pictures that are being decoded while their forerunners are used

Source = TypeVar("Source")
Result = TypeVar("Result")


class ImageDefectError(ValueError):
    """Bytes that are not a usable picture. `reason` is a code of the quarantine ledger."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What the file's bytes say of themselves; width and height in px, as stored (before EXIF orientation)."""

    format: str
    mode: str
    width: int
    height: int


def sample_id(content: bytes) -> str:
    """The identity of a sample: SHA-256 (hex) of its bytes."""
    return hashlib.sha256(content).hexdigest()


def inspect_image(content: bytes, *, min_image_size: int, max_image_pixels: int) -> ImageFacts:
    """Decode the whole picture once. Raises ImageDefectError naming what is wrong; sizes are checked on the header,
    before anything is decoded."""
    if not content:
        raise ImageDefectError("empty_file", "the file has no bytes")
    image = _open(content)
    # a phone's JPEG with a second picture behind the first (MPO) is a JPEG
    facts = ImageFacts(
        format=str(image.format).replace("MPO", "JPEG"), mode=image.mode, width=image.width, height=image.height
    )
    if min(image.size) < min_image_size:
        raise ImageDefectError("too_small", f"{image.width} x {image.height} px, expected at least {min_image_size} px")
    if image.width * image.height > max_image_pixels:
        raise ImageDefectError(
            "too_many_pixels", f"{image.width} x {image.height} px, expected at most {max_image_pixels}"
        )
    if image.format != "MPO" and _num_frames(image) > 1:
        raise ImageDefectError("animated", "the file holds several pictures, expected one")
    _decode(image)
    return facts


def decode_image(content: bytes) -> Image.Image:
    """The picture as RGB, upright (EXIF orientation applied). Transparency is laid on white; 16-bit grey is scaled."""
    return _decode(_open(content))


def read_sample(path: Path, expected_id: str, *, batch: Path) -> Image.Image:
    """A sample that the manifest names. Raises ValueError where the file is gone or holds other bytes than the
    manifest says."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"sample {path} is missing: restore it, or run `dvc pull {batch}.dvc`") from None
    found = sample_id(content)
    if found != expected_id:
        raise ValueError(
            f"sample {path} changed after it was validated (SHA-256 {found[:12]}, expected {expected_id[:12]}): "
            "restore it, or run `dvc repro` to scan its batch again"
        )
    return decode_image(content)


def in_order(sources: Iterable[Source], work: Callable[[Source], Result]) -> Iterator[Result]:
    """`work` of each source, done by a thread a core, given back in the order of the sources."""
    waiting: list[Future[Result]] = []
    remaining = iter(sources)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting.extend(pool.submit(work, source) for source in islice(remaining, READ_AHEAD))
        try:
            while waiting:
                yield waiting.pop(0).result()
                waiting.extend(pool.submit(work, source) for source in islice(remaining, 1))
        finally:
            pool.shutdown(cancel_futures=True)


def _open(content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageDefectError("not_an_image", f"no picture in any of the formats {', '.join(FORMATS)}") from None
    except Exception as error:  # a picture's header can make Pillow raise nearly anything
        raise ImageDefectError("unreadable", _one_line(error)) from error


def _num_frames(image: Image.Image) -> int:
    try:
        return getattr(image, "n_frames", 1)
    except Exception as error:  # a torn picture can make Pillow raise nearly anything
        raise ImageDefectError("unreadable", _one_line(error)) from error


def _decode(image: Image.Image) -> Image.Image:
    try:
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))
    except MemoryError:
        raise  # says something of the machine, not of the picture
    except Exception as error:  # a torn picture can make Pillow raise nearly anything
        raise ImageDefectError("unreadable", _one_line(error)) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
