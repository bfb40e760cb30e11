"""A convolution of 3 x 3 in a quarter of the multiplications (Winograd 1980; Lavin and Gray 2016, F(4 x 4, 3 x 3)).

The images are cut into overlapping tiles of 6 x 6 px, which give 4 x 4 px each. A tile and the weights are transformed
to 36 numbers a channel. There the convolution is a product of matrices for each of the 36. In fp32 the result differs
from that of the definition by a few millionths.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.embedding.fused_steps import NO_ACTIVATION, Activation

LEAST_CHANNELS = 128  # in and out: with fewer, the transforms cost the time that the products save
LEAST_TILES = 32  # of a minibatch: with fewer, the products wait for the weights, of which there are four times as many
TILES = 128  # of a product, about: more leave the cache
INNER, TILE = 4, 6  # pixels of a tile's side: those that are computed, and those that they depend on
RELU = Activation("relu", [])

# of the points 0, 1, -1, 2, -2 and infinity
OF_PIXELS = torch.tensor([
    [4.0, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
])  # fmt: skip
OF_WEIGHTS = torch.tensor([
    [1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
])  # fmt: skip
OF_OUTPUTS = torch.tensor([[1.0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
# for both sides of a tile at once: (36, 36), (36, 9) and (16, 36)
PIXELS, WEIGHTS, OUTPUTS = (torch.kron(one, one) for one in (OF_PIXELS, OF_WEIGHTS, OF_OUTPUTS))
CENTRE = TILE + 1  # of the 36: the point 1 on both sides, which every output counts once, as it does a bias


class WinogradConvolution(nn.Module):
    """A convolution of 3 x 3, an optional sum with another tensor and an optional ReLU.

    `shape` (n, channels, height, width) is that of the inputs. They are float32, channels last.
    """

    def __init__(self, convolution: nn.Conv2d, *, shape: Sequence[int], activation: Activation) -> None:
        super().__init__()
        num, _, *sides = shape
        self.down, self.across = (math.ceil(side / INNER) for side in sides)  # tiles of an image
        # a product takes some rows of tiles of an image, or several whole images: as many as every other product, since
        # the bits of a product may depend on its size
        self.rows = min(max(round(TILES / self.across), 1), self.down)
        wanted = TILES / (self.down * self.across) if self.rows == self.down else 1
        self.images = min((size for size in range(1, num + 1) if num % size == 0), key=lambda size: abs(size - wanted))
        weight = convolution.weight.detach()
        taps = weight.permute(2, 3, 1, 0).reshape(9, -1)
        self.weight = (WEIGHTS @ taps).view(TILE**2, weight.shape[1], weight.shape[0])  # (36, in, out)
        self.bias = None if convolution.bias is None else convolution.bias.detach()
        self.has_relu = activation == RELU

    def forward(self, images: Tensor, other: Tensor | None = None) -> Tensor:
        n, _, height, width = images.shape
        tiles = tiles_of(images.permute(0, 2, 3, 1))
        results = images.new_empty(n, self.down, INNER, self.across, INNER, self.weight.shape[2])
        for first in range(0, n, self.images):
            for top in range(0, self.down, self.rows):
                place = slice(first, first + self.images), slice(top, top + self.rows)
                results[place] = self._results(tiles[:, :, *place])
        result = results.view(n, INNER * self.down, INNER * self.across, -1)[:, :height, :width].permute(0, 3, 1, 2)
        if other is not None:
            result = result + other
        return torch.relu(result) if self.has_relu else result.contiguous(memory_format=torch.channels_last)

    def _results(self, tiles: Tensor) -> Tensor:
        """Return the results (n, down, 4, across, 4, out) of tiles (6, 6, n, down, across, channels)."""
        *where, channels = tiles.shape[2:]
        points = (PIXELS @ tiles.reshape(TILE**2, -1)).view(TILE**2, -1, channels)
        products = torch.bmm(points, self.weight)
        if self.bias is not None:
            products[CENTRE] += self.bias
        results = OUTPUTS @ products.view(TILE**2, -1)
        return results.view(INNER, INNER, *where, -1).permute(2, 3, 0, 4, 1, 5)


def suits(convolution: nn.Conv2d, shape: Sequence[int], activation: Activation) -> bool:
    """Return whether this computes a convolution of inputs of this `shape`, and faster than oneDNN."""
    num, _, *sides = shape
    is_plain = (
        convolution.kernel_size == (3, 3) and convolution.stride == convolution.dilation == (1, 1)
        and convolution.padding in ((1, 1), "same") and convolution.groups == 1
    )  # fmt: skip
    return (
        is_plain
        and convolution.weight.dtype == torch.float32
        and min(convolution.in_channels, convolution.out_channels) >= LEAST_CHANNELS
        and num * math.prod(math.ceil(side / INNER) for side in sides) >= LEAST_TILES
        and activation in (NO_ACTIVATION, RELU)
    )


def tiles_of(pixels: Tensor) -> Tensor:
    """Return the tiles (6, 6, n, down, across, in) of maps (n, height, width, in), with zeros around them.

    Tiles may reach beyond the right and the bottom edge.
    """
    down, across = (math.ceil(side / INNER) * INNER + 1 for side in pixels.shape[1:3])
    padded = F.pad(pixels, (0, 0, 1, across - pixels.shape[2], 1, down - pixels.shape[1]))
    return padded.unfold(1, TILE, INNER).unfold(2, TILE, INNER).permute(4, 5, 0, 1, 2, 3)
