"""Find the samples that are unlike all those that the model was trained on."""

import numpy as np
from numpy.typing import NDArray

from tasks.data.health.unlike import Known
from tasks.models.unlike import PARTS, Unlike


def find_unlike(unlike: Unlike, vectors: NDArray[np.float16]) -> NDArray[np.bool_]:
    """Return (n,) whether each of the first trunk's vectors (n, dim) is beyond the limit."""
    known = Known(**{name: getattr(unlike, name).cpu().numpy() for name in PARTS})
    found: NDArray[np.bool_] = known.distances(vectors) > np.float32(unlike.limit.item())
    return found
