"""The part of a bundle that finds samples unlike all those that the model was trained on."""

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

PARTS = ("mean", "basis", "references")


class Unlike(nn.Module):
    """A summary of the first trunk's training vectors, and the limit beyond which a sample is unlike them.

    It has no part in the forward pass: `tasks.prediction.unlike` asks it. The summary is that of
    `tasks.data.health.unlike`. `level` is the share of samples like the training's that lie beyond the limit.
    """

    mean: Tensor  # (dim,) float16
    basis: Tensor  # (dim, num_components) float16
    references: Tensor  # (num_references, num_components) float16
    limit: Tensor  # ()

    def __init__(self, num_references: int, num_components: int, *, dim: int, level: float) -> None:
        super().__init__()
        self.level = level
        shapes = ((dim,), (dim, num_components), (num_references, num_components))
        for name, shape in zip(PARTS, shapes, strict=True):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float16))
        self.register_buffer("limit", torch.zeros(()))

    @classmethod
    def of(cls, parts: Mapping[str, NDArray[np.float16]], *, limit: float, level: float) -> Self:
        """Return it with the arrays of PARTS, a limit and its level."""
        made = cls(*parts["references"].shape, dim=len(parts["mean"]), level=level)
        for name in PARTS:
            getattr(made, name).copy_(torch.from_numpy(parts[name]))
        made.limit.fill_(limit)
        return made
