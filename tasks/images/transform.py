"""Apply the evaluation transform of a backbone: turn a decoded image into the pixels that it was trained on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
import torchvision.transforms.v2.functional as tvf
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


Decode = Literal["full", "scaled"]
Resize = Literal["shorter_side", "squash"]

LONGEST = 20  # times the shorter side; of a longer strip only the middle is resized, as the crop shows no more
NUM_MARKS = 2  # brightness and sharpness
LEAST_SHARP, MOST_SHARP = -4.0, 1.0  # powers of ten that sharpness is kept within
LEAST_DECODED = 128  # px of the shorter side; the image decoded for a small backbone is also hashed to find copies


@dataclass(frozen=True, kw_only=True)
class Transform:
    """Resize the shorter side to `resize_size` px, crop the centre to `crop_size` px, scale to 0..1, normalise.

    `resize` "squash" resizes both sides to `resize_size` px instead, so that nothing is cut off and a long image is
    distorted, as SigLIP was trained.

    `decode` applies to a JPEG that is at least twice too large. "full" decodes it at full size; "scaled" decodes it to
    a half, a quarter or an eighth of each side, which libjpeg computes from the frequencies, four to ten times as fast.
    """

    resize_size: int
    crop_size: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"
    decode: Decode = "full"  # for bundles that do not state it
    resize: Resize = "shorter_side"
    modality: ClassVar[Literal["images"]] = "images"
    num_marks: ClassVar[int] = NUM_MARKS

    @classmethod
    def from_preset(cls, preset: Any) -> Self:
        """Return the transform that the `transforms()` of torchvision weights apply."""
        return cls(
            resize_size=preset.resize_size[0],
            crop_size=preset.crop_size[0],
            mean=tuple(preset.mean),
            std=tuple(preset.std),
            interpolation=preset.interpolation.value,
        )

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        return cls(**fields | {"mean": tuple(fields["mean"]), "std": tuple(fields["std"])})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields. The usual `resize` is left out, so that fingerprints of before it was there stay true."""
        fields = asdict(self)
        if self.resize == "shorter_side":
            del fields["resize"]
        return fields

    @property
    def shorter_side(self) -> int | None:
        """Return the least px of a decoded image's shorter side, if the file has them; None for all px of the file."""
        return max(self.resize_size, LEAST_DECODED) if self.decode == "scaled" else None

    def prepare(self, image: Image.Image) -> Tensor:
        """Return an RGB image of any size as (3, crop_size, crop_size) uint8.

        The result is within one level of 255 of Pillow's resizing.
        """
        image = _middle(image)
        interpolation = InterpolationMode(self.interpolation)
        size = [self.resize_size] if self.resize == "shorter_side" else [self.resize_size, self.resize_size]
        if interpolation is not InterpolationMode.BILINEAR:  # torch resizes differently
            image = tvf.resize(image, size, interpolation)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)  # (3, height, width), channels last in memory
        if interpolation is InterpolationMode.BILINEAR:  # four times as fast as Pillow's
            pixels = tvf.resize(pixels, size, interpolation, antialias=True)
        cropped: Tensor = tvf.center_crop(pixels, [self.crop_size])
        return cropped

    @staticmethod
    def stack(pixels: Sequence[Tensor]) -> Tensor:
        """Stack n tensors (3, height, width) to (n, 3, height, width), channels last in memory, like decoded pixels."""
        return torch.stack([image.permute(1, 2, 0) for image in pixels]).permute(0, 3, 1, 2)

    @staticmethod
    def marks(image: Image.Image, pixels: Tensor) -> NDArray[np.uint8]:
        """Return the marks (num_marks,) of an image and its pixels (3, height, width): see `quality`."""
        return quality(pixels.numpy())

    def normalize(self, pixels: Tensor) -> Tensor:
        """Normalise (n, 3, size, size) uint8 to (n, 3, size, size) float32, channels last, as the backbone expects."""
        n, channels, height, width = pixels.shape
        # row by row is six times as fast as channel by channel, since channels are last in memory
        rows = pixels.permute(0, 2, 3, 1).reshape(n * height, width * channels).float()
        scale, shift = _scale_and_shift(self.mean, self.std, width, rows.device)
        rows.mul_(scale).add_(shift)
        return rows.view(n, height, width, channels).permute(0, 3, 1, 2)


def _middle(image: Image.Image) -> Image.Image:
    """Return the image without the ends of a strip: 20,000,000 x 1 px, a file of 20 kB, would be resized to 3 TB."""
    width, height = (min(side, LONGEST * min(image.size)) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image if image.size == (width, height) else image.crop((left, top, left + width, top + height))


@cache  # made once: a copy to a GPU waits until its computations end, and a recording there reads them each time
@torch.inference_mode(False)
def _scale_and_shift(
    mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the factor and the summand of a row of pixels, (width * channels,) float32 each."""
    means, deviations = (torch.tensor(values, dtype=torch.float64) for values in (mean, std))
    factors = 1 / (255 * deviations), -means / deviations
    scale, shift = (values.float().repeat(width).to(device) for values in factors)
    return scale, shift


def quality(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the marks (NUM_MARKS,) of an image (3, height, width) uint8: brightness and sharpness.

    Brightness is the mean of all px, 0..255. Sharpness is the variance of the Laplacian (Pech-Pacheco et al. 2000) over
    the variance of the px, so that contrast does not count: its logarithm, 0 at a ten-thousandth and 255 at ten.
    """
    red, green, blue = pixels
    grey = (red.astype(np.uint16) + green + blue) / np.float32(3)  # five times as fast as a mean over the channels
    brightness = grey.mean()
    sides = grey[1:-1, :-2] + grey[1:-1, 2:] + grey[:-2, 1:-1] + grey[2:, 1:-1]
    edges = sides - 4 * grey[1:-1, 1:-1]
    ratio = edges.var() / max(float(grey.var()), 1.0) if edges.size else 1.0
    power = np.clip(np.log10(max(float(ratio), 10**LEAST_SHARP)), LEAST_SHARP, MOST_SHARP)
    sharpness = 255 * (power - LEAST_SHARP) / (MOST_SHARP - LEAST_SHARP)
    return np.rint([brightness, sharpness]).astype(np.uint8)
