"""Convolutions of 3x3 with a quarter of the multiplications, forward and for both gradients, on a processor.

This is Winograd's F(4x4, 3x3) (Lavin and Gray 2016): a tile of 6x6 pixels gives 4x4 outputs by 36 multiplications, for
each input and output channel, where a sliding window takes 144. All steps are linear, so that the gradients take the
same way back. The weights are transformed once a minibatch.
"""

import threading
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.embedding.winograd import INNER, OUTPUTS, PIXELS, TILE, WEIGHTS, tiles_of

# where it pays, measured on shapes of torchvision's networks: elsewhere the tiles cost as much as they save
LEAST_CHANNELS, LEAST_TILES = 64, 4
MOST_PRODUCTS = 0.4  # of those of a sliding window; tiles may reach beyond the right and the bottom edge


class Convolution(nn.Module):
    """Maps (n, in, height, width) to (n, out, height, width), as a convolution with a window of 3x3 does.

    It shares the weights of `convolution`. The transformed weights are kept until the weights change. Maps for which it
    does not pay, or that are not in float32, are left to torch.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self._kept: tuple[Any, Tensor] | None = None
        self._lock = threading.Lock()

    def forward(self, maps: Tensor) -> Tensor:
        is_float32 = maps.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if maps.device.type != "cpu" or not is_float32 or not pays(*maps.shape[2:]):
            return F.conv2d(maps, self.weight, self.bias, padding=1)
        result: Tensor = _Convolve.apply(maps, self.weight, self.bias, self.transformed())
        return result

    def prepare(self) -> None:
        """Transform the weights anew where they changed, once they have been needed."""
        if self._kept:
            self.transformed()

    @torch.no_grad()
    def transformed(self) -> Tensor:
        """Return the transformed weights (36, out, in)."""
        with self._lock:
            state = (self.weight.data_ptr(), self.weight._version)
            if self._kept is None or self._kept[0] != state:
                out, given = self.weight.shape[:2]
                windows = self.weight.permute(2, 3, 0, 1).reshape(9, -1)
                self._kept = state, (WEIGHTS @ windows).view(TILE**2, out, given)
            return self._kept[1]


def pays(height: int, width: int) -> bool:
    """Return whether tiles cover a map of this size with few products."""
    num_tiles = -(-height // INNER) * -(-width // INNER)
    return num_tiles >= LEAST_TILES and num_tiles * TILE**2 <= MOST_PRODUCTS * 9 * height * width


def convolve_by_tiles(network: nn.Module) -> None:
    """Replace the convolutions of 3x3 with many channels in a network.

    With AVX-512 oneDNN is as fast, and stays.
    """
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        return
    for name, part in list(network.named_modules()):
        if type(part) is nn.Conv2d and _is_suited(part):
            network.set_submodule(name, Convolution(part))


def _is_suited(part: nn.Conv2d) -> bool:
    is_plain = (part.kernel_size, part.stride, part.dilation, part.groups) == ((3, 3), (1, 1), (1, 1), 1)
    pads = part.padding in ((1, 1), 1) and part.padding_mode == "zeros"
    return is_plain and pads and min(part.in_channels, part.out_channels) >= LEAST_CHANNELS


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor | None, transformed: Tensor) -> Tensor:
        pixels = maps.permute(0, 2, 3, 1)  # (n, height, width, in)
        ctx.shape, ctx.tiles, ctx.transformed = pixels.shape, transformed_tiles(pixels), transformed
        result = outputs_of(ctx.tiles @ transformed.transpose(1, 2), pixels.shape)
        return (result if bias is None else result + bias).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        slope = slopes[0].permute(0, 2, 3, 1)  # (n, height, width, out)
        tiles = slope_tiles(slope)
        needs_maps, needs_weight, needs_bias, _ = ctx.needs_input_grad
        of_maps = slope_pixels(tiles @ ctx.transformed, ctx.shape).permute(0, 3, 1, 2) if needs_maps else None
        of_weight = slope_weight(tiles.transpose(1, 2) @ ctx.tiles) if needs_weight else None
        return of_maps, of_weight, slope.sum(dim=(0, 1, 2)) if needs_bias else None, None


def transformed_tiles(pixels: Tensor) -> Tensor:
    """Return the transformed tiles (36, num_tiles, in) of maps (n, height, width, in)."""
    return (PIXELS @ tiles_of(pixels).reshape(TILE**2, -1)).view(TILE**2, -1, pixels.shape[3])


def outputs_of(products: Tensor, shape: torch.Size) -> Tensor:
    """Return the maps (n, height, width, out) of products (36, num_tiles, out)."""
    n, height, width, _ = shape
    down, across = -(-height // INNER), -(-width // INNER)
    inner = (OUTPUTS @ products.flatten(1)).view(INNER, INNER, n, down, across, -1)
    return inner.permute(2, 3, 0, 4, 1, 5).reshape(n, down * INNER, across * INNER, -1)[:, :height, :width]


def slope_tiles(slope: Tensor) -> Tensor:
    """Return (36, num_tiles, out) of a slope (n, height, width, out): the transpose of `outputs_of`."""
    n, height, width, out = slope.shape
    down, across = -(-height // INNER), -(-width // INNER)
    padded = F.pad(slope, (0, 0, 0, across * INNER - width, 0, down * INNER - height))
    inner = padded.view(n, down, INNER, across, INNER, out).permute(2, 4, 0, 1, 3, 5)
    return (OUTPUTS.T @ inner.reshape(INNER**2, -1)).view(TILE**2, -1, out)


def slope_pixels(tiles: Tensor, shape: torch.Size) -> Tensor:
    """Return (n, height, width, in) of tiles (36, num_tiles, in): the transpose of `transformed_tiles`."""
    n, height, width, given = shape
    down, across = -(-height // INNER), -(-width // INNER)
    pixels = (PIXELS.T @ tiles.flatten(1)).view(TILE, TILE, n, down, across, given)
    padded = tiles.new_zeros(n, down * INNER + INNER, across * INNER + INNER, given)
    for row in range(TILE):
        for column in range(TILE):
            rows, columns = slice(row, row + down * INNER, INNER), slice(column, column + across * INNER, INNER)
            padded[:, rows, columns] += pixels[row, column]
    return padded[:, 1 : height + 1, 1 : width + 1]


def slope_weight(products: Tensor) -> Tensor:
    """Return (out, in, 3, 3), channels last, of products (36, out, in): the transpose of `Convolution.transformed`."""
    _, out, given = products.shape
    return (WEIGHTS.T @ products.transpose(0, 1)).view(out, 3, 3, given).permute(0, 3, 1, 2)
