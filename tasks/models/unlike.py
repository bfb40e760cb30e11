"""The part of a bundle that finds samples unlike anything the model was trained on."""

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Unlike(nn.Module):
    """Holds the training vectors of the first trunk that are kept, and the limit beyond which a sample is unlike them.

    It has no part in the forward pass: `tasks.prediction.unlike` asks it. The references are directions, as
    `tasks.data.health.unlike` makes them. `level` is the share of samples like the trained ones that are beyond the
    limit.
    """

    references: Tensor  # (num_references, dim) float16
    limit: Tensor  # ()

    def __init__(self, num_references: int, *, dim: int, level: float) -> None:
        super().__init__()
        self.level = level
        self.register_buffer("references", torch.zeros(num_references, dim, dtype=torch.float16))
        self.register_buffer("limit", torch.zeros(()))

    @classmethod
    def of(cls, references: NDArray[np.float16], *, limit: float, level: float) -> Self:
        """Return it with references (num_references, dim), a limit and its level."""
        made = cls(len(references), dim=references.shape[1], level=level)
        made.references.copy_(torch.from_numpy(references))
        made.limit.fill_(limit)
        return made
