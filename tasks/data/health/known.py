"""Choose the summary of training vectors by which samples unlike them are found: see `tasks.data.health.unlike`."""

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks.data.health.components import Components
from tasks.data.health.unlike import Known, directions

MOST_REFERENCES = 2000  # vectors that are kept, 0.5 MB
NUM_COMPONENTS = 128
VECTORS_PER_COMPONENT = 4  # with fewer, a direction describes single vectors instead of their kind


def keep(vectors: NDArray[np.floating]) -> Known:
    """Return the summary of vectors (r, dim)."""
    own = directions(vectors)
    with threadpool_limits(1):  # no bit depends on the number of cores
        components = Components.of(own, most=max(min(NUM_COMPONENTS, len(own) // VECTORS_PER_COMPONENT), 1))
        mean, basis = components.mean.astype(np.float16), components.basis.astype(np.float16)
        references = (own - mean.astype(np.float32)) @ basis.astype(np.float32)
    return Known(mean=mean, basis=basis, references=references.astype(np.float16))
