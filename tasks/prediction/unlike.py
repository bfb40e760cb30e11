"""Which samples are unlike anything the model was trained on."""

import numpy as np
from numpy.typing import NDArray

from tasks.data.health.unlike import distances
from tasks.models.unlike import Unlike


def find_unlike(known: Unlike, vectors: NDArray[np.float16]) -> NDArray[np.bool_]:
    """Return (n,) which of the first trunk's vectors (n, dim) are beyond the limit."""
    found: NDArray[np.bool_] = distances(known.references.cpu().numpy(), vectors) > np.float32(known.limit.item())
    return found
