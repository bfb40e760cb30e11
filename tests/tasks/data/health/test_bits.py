"""The words that hashes are compared by: made of a copy, in little memory."""

import tracemalloc

import numpy as np
import pytest

from tasks.data.health.bits import HashDistance, reaches


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (5, 10)])
def test_hashes_stay_as_they_are(shape):
    hashes = np.random.default_rng(0).integers(0, 256, (*shape, 32), dtype=np.uint8)
    given = hashes.copy()
    HashDistance(num_bits=256, has_mirrored=True).words(hashes)
    assert (hashes == given).all()


def test_words_and_their_reaches_need_little_more_memory_than_the_hashes():
    hashes = np.random.default_rng(0).integers(0, 256, (5000, 10, 32), dtype=np.uint8)
    tracemalloc.start()
    reaches(HashDistance(num_bits=256, has_mirrored=True).words(hashes))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.8 * hashes.nbytes
