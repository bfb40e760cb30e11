"""Random views of an image that keep its label: pixels and random numbers in, pixels out."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.images.options import Augmentation

NUM_DRAWS = 5  # of a view: rotation, scale, mirror, shift along both sides


@dataclass(frozen=True, kw_only=True)
class AugmentedViews:
    """The numbered views of samples: a number always gives the same view."""

    augmentation: Augmentation
    seed: int

    @property
    def facts(self) -> dict[str, Any]:
        """Return everything that a view depends on besides the sample and the view's number."""
        limits = {field.name: getattr(self.augmentation, field.name) for field in fields(Augmentation)}
        return {"augmentation": limits, "seed": self.seed}

    def __call__(self, pixels: Tensor, sample_ids: Sequence[str], view: int) -> Tensor:
        """(n, 3, size, size) uint8 -> the same shape."""
        return augment(pixels, draw(sample_ids, view=view, seed=self.seed), self.augmentation)


def augment(pixels: Tensor, draws: Tensor, limits: Augmentation) -> Tensor:
    """Rotate, shift, scale and, on request, mirror each image by its own amount, uniform within the limits.

    A part of a view that lies outside of the image repeats its border.

    Args:
        pixels: (n, 3, size, size) uint8.
        draws: (n, NUM_DRAWS) in 0..1.

    Returns:
        (n, 3, size, size) uint8, channels last.
    """
    rotation, scaling, mirror, *shifts = (draws * 2 - 1).unbind(dim=1)
    angle = rotation * math.radians(limits.max_rotation_degrees)
    scale = 1 + scaling * limits.max_scale_fraction
    mirror = torch.where(mirror < 0, -1.0, 1.0) if limits.flip else torch.ones_like(mirror)
    shift = torch.stack(shifts, dim=1) * 2 * limits.max_shift_fraction  # the grid is -1..1
    cos, sin = angle.cos() / scale, angle.sin() / scale
    rows = torch.stack([torch.stack([mirror * cos, -sin], dim=1), torch.stack([mirror * sin, cos], dim=1)], dim=1)
    theta = torch.cat([rows, shift[:, :, None]], dim=2)  # (n, 2, 3)
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    views = F.grid_sample(pixels.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return views.round_().to(torch.uint8).contiguous(memory_format=torch.channels_last)


def draw(sample_ids: Sequence[str], *, view: int, seed: int) -> Tensor:
    """Return the random numbers of a view of each sample: (n, NUM_DRAWS) float32 in 0..1.

    They depend on the sample, the view's number and the seed alone, whatever the order and the neighbours.
    """
    digests = b"".join(hashlib.sha256(f"{seed} {view} {sample_id}".encode()).digest() for sample_id in sample_ids)
    numbers = np.frombuffer(digests, "<u4").reshape(len(sample_ids), 8)[:, :NUM_DRAWS]
    return torch.from_numpy((numbers / 2**32).astype(np.float32))
