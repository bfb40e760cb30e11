"""The part of a bundle that finds samples unlike anything the model was trained on. See `tasks.data.health.unlike`."""

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tasks.data.health.unlike import Neighbourhood


class Unlike(nn.Module):
    """Holds the training vectors of the first trunk that are kept, and the limit beyond which a sample is unlike them.

    It has no part in the forward pass. `level` is the share of samples like the trained ones that are beyond the limit.
    """

    mean: Tensor  # (dim,)
    references: Tensor  # (num_references, dim) float16
    limit: Tensor  # ()

    def __init__(self, num_references: int, *, dim: int, level: float) -> None:
        super().__init__()
        self.level = level
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("references", torch.zeros(num_references, dim, dtype=torch.float16))
        self.register_buffer("limit", torch.zeros(()))

    @classmethod
    def of(cls, neighbourhood: Neighbourhood, *, limit: float, level: float) -> Self:
        """Return the detector of a neighbourhood and a limit."""
        num, dim = neighbourhood.references.shape
        made = cls(num, dim=dim, level=level)
        made.mean.copy_(torch.from_numpy(neighbourhood.mean))
        made.references.copy_(torch.from_numpy(neighbourhood.references))
        made.limit.fill_(limit)
        return made

    def finds(self, vectors: NDArray[np.float16]) -> NDArray[np.bool_]:
        """Return (n,) which of the first trunk's vectors (n, dim) are unlike those that the model was trained on."""
        neighbourhood = Neighbourhood(mean=self.mean.cpu().numpy(), references=self.references.cpu().numpy())
        found: NDArray[np.bool_] = neighbourhood.distances(vectors) > np.float32(self.limit.item())
        return found
