"""The fused steps of a graph, see `tasks.embedding.fusion`: each computes several steps of a network as one."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Activation(NamedTuple):
    """An activation as oneDNN knows it."""

    name: str  # empty where there is none
    numbers: list[float]
    algorithm: str = ""


NO_ACTIVATION = Activation("", [])


class FusedConvolution(nn.Module):
    """A convolution, an optional sum with another tensor and an optional activation, as one step of oneDNN.

    Its weights are in the layout that oneDNN wants for inputs of `shape` (n, channels, height, width).
    """

    def __init__(self, convolution: nn.Conv2d, *, shape: list[int], activation: Activation) -> None:
        super().__init__()
        self.window = (convolution.padding, convolution.stride, convolution.dilation, convolution.groups)
        self.activation = activation
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        self.weight = reorder(convolution.weight.detach().to_mkldnn(), *self.window, shape)
        self.bias = None if convolution.bias is None else convolution.bias.detach()

    def forward(self, images: Tensor, other: Tensor | None = None) -> Tensor:
        convolve = torch.ops.mkldnn._convolution_pointwise
        name, numbers, algorithm = self.activation
        result: Tensor
        if other is None:
            result = convolve(images, self.weight, self.bias, *self.window, name or "none", numbers, algorithm)
        else:
            result = convolve.binary(
                images, other, self.weight, self.bias, *self.window, "add", 1.0, name or None, numbers,
                algorithm or None,
            )  # fmt: skip
        return result


class FusedLinear(nn.Module):
    """A linear layer and an activation, or a sum with another tensor, as one step of oneDNN.

    Its weights are in the layout that oneDNN wants for inputs of so many rows.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, *, num_rows: int, activation: Activation = NO_ACTIVATION
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), num_rows)
        self.bias = None if bias is None else bias.detach()

    def forward(self, rows: Tensor, other: Tensor | None = None) -> Tensor:
        linear = torch.ops.mkldnn._linear_pointwise
        name, numbers, algorithm = self.activation
        result: Tensor
        if other is None:
            result = linear(rows, self.weight, self.bias, name or "none", numbers, algorithm)
        else:
            result = linear.binary(rows, other, self.weight, self.bias, "add")
        return result


class FusedAttention(nn.Module):
    """The self-attention of torch's MultiheadAttention, whose scores are never written out (Dao et al. 2022).

    It maps (n, positions, dim) to the same, and returns None as the second result.
    """

    def __init__(self, attention: nn.MultiheadAttention, *, num_rows: int) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        own, out = attention.in_proj_weight, attention.out_proj
        assert own is not None
        self.inputs = FusedLinear(own, attention.in_proj_bias, num_rows=num_rows)
        self.outputs = FusedLinear(out.weight, out.bias, num_rows=num_rows)

    def forward(self, tokens: Tensor, *_: Tensor, **__: Any) -> tuple[Tensor, None]:
        n, positions, dim = tokens.shape
        parts = self.inputs(tokens).view(n, positions, 3, self.num_heads, dim // self.num_heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # (n, heads, positions, width) each
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.outputs(attended.transpose(1, 2).reshape(n, positions, dim)), None


class CudnnConvolution(nn.Module):
    """The same on a GPU, as one step of cuDNN, whose only activation is ReLU."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        padding: Any = convolution.padding
        self.window = (convolution.stride, padding, convolution.dilation, convolution.groups)
        self.weight = convolution.weight.detach()
        self.bias = None if convolution.bias is None else convolution.bias.detach()

    def forward(self, images: Tensor, other: Tensor | None = None) -> Tensor:
        result: Tensor
        if other is None:
            result = torch.ops.aten.cudnn_convolution_relu(images, self.weight, self.bias, *self.window)
        else:
            result = torch.ops.aten.cudnn_convolution_add_relu(images, self.weight, other, 1.0, self.bias, *self.window)
        return result
