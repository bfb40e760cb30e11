"""The facts of an image, which scan writes beside its labels."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts in an image file; width and height in px, as stored (before EXIF orientation)."""

    format: str
    mode: str
    width: int
    height: int
