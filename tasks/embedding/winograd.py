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

from tasks.embedding.fused_steps import NO_ACTIVATION, Activation, FusedLinear

STEP = 4  # px of the side of a tile's result
TILE = STEP + 2  # px of the side of a tile; it overlaps the next one by two
LEAST_CHANNELS = 128  # in and out: with fewer, the transforms take the time that the products save
LEAST_TILES = 32  # of a minibatch: with fewer, the products wait for the weights, of which there are four times as many
TILES = 128  # of a product, about: more leave the cache
RELU = Activation("relu", [])

# the transforms of one direction, for the points 0, 1, -1, 2, -2 and infinity
OF_TILE = [
    [4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
    [0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
    [0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
    [0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
    [0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
    [0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
]
OF_WEIGHT = [
    [1 / 4, 0.0, 0.0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0.0, 0.0, 1.0],
]
OF_RESULT = [
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    [0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
    [0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
    [0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
]


CENTRE = TILE + 1  # of the 36: the point 1 in both directions, which every px of a result counts once, as a bias


class WinogradConvolution(nn.Module):
    """A convolution of 3 x 3, an optional sum with another tensor and an optional ReLU.

    `shape` (n, channels, height, width) is that of the inputs. They are float32, channels last.
    """

    def __init__(self, convolution: nn.Conv2d, *, shape: Sequence[int], activation: Activation) -> None:
        super().__init__()
        num, _, *sides = shape
        self.down, self.across = (math.ceil(side / STEP) for side in sides)  # tiles of an image
        # a product takes some rows of tiles of an image, or several whole images
        self.rows = min(max(round(TILES / self.across), 1), self.down)
        self.images = min(math.ceil(TILES / (self.down * self.across)), num) if self.rows == self.down else 1
        self.has_relu = activation == RELU
        self.width = convolution.out_channels
        weight = convolution.weight.detach()
        taps = weight.permute(2, 3, 1, 0).reshape(9, -1).double()
        points = (in_both_directions(OF_WEIGHT) @ taps).float().view(TILE**2, weight.shape[1], weight.shape[0])
        self.products = nn.ModuleList(
            FusedLinear(
                point.T.contiguous(), convolution.bias if place == CENTRE else None,
                num_rows=self.images * self.rows * self.across,
            )
            for place, point in enumerate(points)
        )  # fmt: skip
        self.of_tile = in_both_directions(OF_TILE).float()  # (36, 36)
        self.of_result = in_both_directions(OF_RESULT).float()  # (16, 36)

    def forward(self, images: Tensor, other: Tensor | None = None) -> Tensor:
        n, _, height, width = images.shape
        down, across = STEP * self.down, STEP * self.across
        padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, 1, 1 + across - width, 1, 1 + down - height))
        tiles = padded.unfold(1, TILE, STEP).unfold(2, TILE, STEP)  # (n, down, across, channels, 6, 6)
        results = images.new_empty(n, self.down, STEP, self.across, STEP, self.width)
        for first in range(0, n, self.images):
            for top in range(0, self.down, self.rows):
                place = slice(first, first + self.images), slice(top, top + self.rows)
                results[place] = self._results(tiles[place].permute(4, 5, 0, 1, 2, 3))
        result = results.view(n, down, across, -1)[:, :height, :width].permute(0, 3, 1, 2)
        if other is not None:
            result = result + other
        return torch.relu(result) if self.has_relu else result.contiguous(memory_format=torch.channels_last)

    def _results(self, tiles: Tensor) -> Tensor:
        """Return the results (n, down, 4, across, 4, out) of tiles (6, 6, n, down, across, channels)."""
        *where, channels = tiles.shape[2:]
        points = (self.of_tile @ tiles.reshape(TILE**2, -1)).view(TILE**2, -1, channels)
        products = [product(point) for product, point in zip(self.products, points, strict=True)]
        results = self.of_result @ torch.stack(products).view(TILE**2, -1)
        return results.view(STEP, STEP, *where, -1).permute(2, 3, 0, 4, 1, 5)


def suits(convolution: nn.Conv2d, shape: Sequence[int], activation: Activation) -> bool:
    """Return whether a convolution of inputs of this `shape` is one that this computes, and faster."""
    num, _, *sides = shape
    is_plain = (
        convolution.kernel_size == (3, 3) and convolution.stride == convolution.dilation == (1, 1)
        and convolution.padding in ((1, 1), "same") and convolution.groups == 1
    )  # fmt: skip
    return (
        is_plain
        and convolution.weight.dtype == torch.float32
        and min(convolution.in_channels, convolution.out_channels) >= LEAST_CHANNELS
        and num * math.prod(math.ceil(side / STEP) for side in sides) >= LEAST_TILES
        and activation in (NO_ACTIVATION, RELU)
    )


def in_both_directions(matrix: Sequence[Sequence[float]]) -> Tensor:
    """Return what transforms the rows and the columns of a tile, whose numbers stand in one column, in float64."""
    one = torch.tensor(matrix, dtype=torch.float64)
    return torch.kron(one, one)
