"""The settings in params.yaml for images."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from tasks.machine.bounds import Count, Fraction


@dataclass(frozen=True, kw_only=True)
class SizeLimits:
    """The sizes of an image that is decoded: px of its shorter side, and width times height."""

    min_image_size: Count
    max_image_pixels: Count


@dataclass(frozen=True, kw_only=True)
class PictureSize:
    """The size of an image on the page: px of its longer side."""

    picture_size: Annotated[int, Field(ge=8, le=512)]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The limits within which a view of an image is rotated, shifted, scaled and, on request, mirrored."""

    max_rotation_degrees: Annotated[float, Field(ge=0, le=180)]
    max_shift_fraction: Fraction  # of the side
    max_scale_fraction: Annotated[float, Field(ge=0, lt=1)]
    flip: bool
