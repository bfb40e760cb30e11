"""Random numbers for large networks, whose values no test looks at, in a fraction of the time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest
import torch
from torch import Tensor

MOST = 2**18  # numbers that are drawn for a tensor; larger ones repeat them


@contextmanager
def few_random_numbers() -> Iterator[None]:
    """Let a tensor of many numbers repeat some random ones: a network of 100 million takes a second to draw."""

    def few(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @torch.no_grad()  # as the functions of torch.nn.init draw
        @wraps(draw)
        def fill(tensor: Tensor, *arguments: Any, **named: Any) -> Tensor:
            if tensor.numel() <= MOST or tensor.device.type != "cpu" or not tensor.is_contiguous():
                return draw(tensor, *arguments, **named)
            part = draw(tensor.new_empty(MOST), *arguments, **named)
            flat = tensor.view(-1)
            num_whole = tensor.numel() // MOST
            flat[: num_whole * MOST].view(num_whole, MOST).copy_(part)
            flat[num_whole * MOST :] = part[: tensor.numel() % MOST]
            return tensor

        return fill

    with pytest.MonkeyPatch.context() as patch:
        for name in ("uniform_", "normal_"):
            patch.setattr(torch.Tensor, name, few(getattr(torch.Tensor, name)))
        patch.setattr(torch.nn.init, "trunc_normal_", few(torch.nn.init.trunc_normal_))
        yield
