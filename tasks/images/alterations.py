"""Make altered copies of an image, as they occur in collections: one copy a kind."""

import io
from collections.abc import Callable

import pandas as pd
from PIL import Image, ImageEnhance, ImageOps

from tasks.images.decode import decode_sample

LONGEST = 13_000  # px a side; Pillow crops no more than 178,956,970 px, and a large image takes long to alter
CROP_FRACTION = 0.95  # of each side, kept by a crop


def resized(image: Image.Image, *, fraction: float) -> Image.Image:
    """Scale each side by `fraction`."""
    size = max(round(image.width * fraction), 1), max(round(image.height * fraction), 1)
    return image.resize(size, Image.Resampling.BICUBIC)


def recompressed(image: Image.Image, *, quality: int) -> Image.Image:
    """Encode the image as a JPEG of this quality, 1..95, and decode it."""
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return decode_sample(content.getvalue())


def cropped(image: Image.Image, *, across: float, down: float) -> Image.Image:
    """Crop the image to CROP_FRACTION of each side.

    `across` and `down` place the crop in the margin, 0..1 from left to right and from top to bottom.
    """
    width, height = round(image.width * CROP_FRACTION), round(image.height * CROP_FRACTION)
    left, top = round(across * (image.width - width)), round(down * (image.height - height))
    return image.crop((left, top, left + width, top + height))


def flipped(image: Image.Image) -> Image.Image:
    """Mirror the image left to right."""
    return ImageOps.mirror(image)


def shifted(image: Image.Image, *, fraction: float) -> Image.Image:
    """Shift the image right and down by a fraction of the shorter side, at least 1 px; its own border fills the gap."""
    offset = max(round(fraction * min(image.size)), 1)
    moved = image.copy()
    moved.paste(image, (offset, 0))
    across = moved.copy()
    moved.paste(across, (0, offset))
    return moved


def brightened(image: Image.Image, *, factor: float) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(factor)


def may_be_altered(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Return whether the samples of manifest rows are small enough to be altered."""
    return rows[["width", "height"]].max(axis=1) <= LONGEST


# by kind: a function of the image and the strength of the alteration, 0..1
ALTERED_COPIES: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "resized": lambda image, strength: resized(image, fraction=0.75 - 0.25 * strength),
    "recompressed": lambda image, strength: recompressed(image, quality=round(60 - 20 * strength)),
    "cropped": lambda image, strength: cropped(image, across=strength, down=strength * 7 % 1),
    "flipped": lambda image, strength: flipped(image),
    "brightened": lambda image, strength: brightened(image, factor=1.2 + 0.1 * strength),
}

# alterations that should change no answer, by their names in evaluate.perturbations
PERTURBATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "flipped": flipped,
    "shifted": lambda image: shifted(image, fraction=0.02),
    "recompressed": lambda image: recompressed(image, quality=60),
}
