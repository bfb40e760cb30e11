"""Random views of a picture whose label stays the same. Pixels and where chance fell in, pixels out."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

NUM_DRAWS = 5  # of a view: rotation, scale, mirror, shift along both sides


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Rotate, shift, scale and (on request) mirror each picture by its own amount, uniform within these limits. What comes
    in from outside repeats the border."""

    max_rotation_degrees: float
    max_shift_fraction: float  # of the side
    max_scale_fraction: float
    flip: bool

    def __call__(self, pixels: Tensor, draws: Tensor) -> Tensor:
        """(n, 3, size, size) uint8 and (n, NUM_DRAWS) in 0..1 -> (n, 3, size, size) uint8, channels last."""
        rotation, scaling, mirror, *shifts = (draws * 2 - 1).unbind(dim=1)
        angle = rotation * math.radians(self.max_rotation_degrees)
        scale = 1 + scaling * self.max_scale_fraction
        mirror = torch.where(mirror < 0, -1.0, 1.0) if self.flip else torch.ones_like(mirror)
        shift = torch.stack(shifts, dim=1) * 2 * self.max_shift_fraction  # the grid is -1..1
        cos, sin = angle.cos() / scale, angle.sin() / scale
        rows = torch.stack([torch.stack([mirror * cos, -sin], dim=1), torch.stack([mirror * sin, cos], dim=1)], dim=1)
        theta = torch.cat([rows, shift[:, :, None]], dim=2)  # (n, 2, 3)
        grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
        views = F.grid_sample(pixels.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
        return views.round_().to(torch.uint8).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True, kw_only=True)
class Views:
    """Numbered views of samples, always the same."""

    augmentation: Augmentation
    seed: int

    @property
    def facts(self) -> dict[str, Any]:
        """All that a view depends on besides the sample and the view's number."""
        return asdict(self)

    def __call__(self, pixels: Tensor, sample_ids: Sequence[str], view: int) -> Tensor:
        """(n, 3, size, size) uint8 -> the same shape."""
        return self.augmentation(pixels, draw(sample_ids, view=view, seed=self.seed))


def draw(sample_ids: Sequence[str], *, view: int, seed: int) -> Tensor:
    """Where chance falls for a view of each sample: (n, NUM_DRAWS) float32 in 0..1. It depends on the sample, the view's number
    and the seed alone, whatever the order and the neighbours."""
    digests = b"".join(hashlib.sha256(f"{seed} {view} {each}".encode()).digest() for each in sample_ids)
    numbers = np.frombuffer(digests, "<u4").reshape(len(sample_ids), 8)[:, :NUM_DRAWS]
    return torch.from_numpy((numbers / 2**32).astype(np.float32))
