import gc
import weakref

import numpy as np

from tasks.training.heads.cross_entropy import Pass
from tasks.training.heads.rows import StandardRows
from tasks.training.heads.whitening import NUM_FACTORS, Whitening


def test_matrices_are_freed_at_once_and_few_are_kept():
    generator = np.random.default_rng(0)
    whitening = Whitening(StandardRows(generator.normal(size=(40, 8))))
    at = Pass(loss=1.0, gradient=np.ones((2, 9)), curvature=np.full(2, 0.2), centres=np.zeros((2, 8)))
    for power in range(2 * NUM_FACTORS):
        whitening.apply_inverse(np.ones((2, 9)), at=at, l2=4.0**power)
    assert len(whitening._factors) == NUM_FACTORS
    freed = weakref.ref(whitening)
    gc.disable()
    try:
        del whitening
        assert freed() is None
    finally:
        gc.enable()
