"""The evaluation transform of a backbone: a decoded picture in, the pixels that the backbone was trained to see out."""

from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
import torchvision.transforms.v2.functional as tvf
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Transform:
    """Resize the shorter side to `resize_size` px, crop the centre to `crop_size` px, scale to 0..1, normalise."""

    resize_size: int
    crop_size: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        return cls(**fields | {"mean": tuple(fields["mean"]), "std": tuple(fields["std"])})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def pixels(self, image: Image.Image) -> Tensor:
        """An RGB picture of any size -> (3, crop_size, crop_size) uint8."""
        image = tvf.resize(image, [self.resize_size], interpolation=InterpolationMode(self.interpolation))
        pixels: Tensor = tvf.pil_to_tensor(tvf.center_crop(image, [self.crop_size]))
        return pixels

    def normalize(self, pixels: Tensor) -> Tensor:
        """(n, 3, size, size) uint8 -> (n, 3, size, size) float32, channels last, as the backbone expects it."""
        images: Tensor = tvf.normalize(pixels.float().div_(255), list(self.mean), list(self.std), inplace=True)
        return images.contiguous(memory_format=torch.channels_last)
