"""Random views of a picture whose label stays the same. Images and a generator in, images out."""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def random_affine(
    images: Tensor,
    generator: Generator,
    *,
    max_rotation_degrees: float,
    max_shift_fraction: float,
    max_scale_fraction: float,
    flip: bool,
) -> Tensor:
    """Rotate, shift, scale and (on request) mirror each of (n, 3, size, size) by its own random amount, all uniform.

    What comes in from outside repeats the border. Shifts are fractions of the side.
    """
    n = len(images)

    def uniform(limit: float) -> Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * limit

    angle = uniform(math.radians(max_rotation_degrees))
    scale = 1 + uniform(max_scale_fraction)
    mirror = 1 - 2 * (torch.rand(n, generator=generator) < 0.5).float() if flip else torch.ones(n)
    shift = torch.stack([uniform(2 * max_shift_fraction), uniform(2 * max_shift_fraction)], dim=1)  # grid is -1..1
    cos, sin = angle.cos() / scale, angle.sin() / scale
    rows = torch.stack([torch.stack([mirror * cos, -sin], dim=1), torch.stack([mirror * sin, cos], dim=1)], dim=1)
    theta = torch.cat([rows, shift[:, :, None]], dim=2)  # (n, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    views = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return views.contiguous(memory_format=torch.channels_last)
