import numpy as np
import pytest

from tasks.embedding.looks import Looks, unpack
from tasks.images.copy_hash import HASHES_SHAPE


@pytest.mark.parametrize("num_marks", [0, 2])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_packed_looks_unpack_to_the_same_looks(n, num_marks):
    generator = np.random.default_rng(0)
    looks = Looks(
        vectors=generator.normal(size=(n, 7)).astype(np.float16),
        hashes=generator.integers(0, 256, (n, *HASHES_SHAPE), dtype=np.uint8),
        marks=generator.integers(0, 256, (n, num_marks), dtype=np.uint8),
    )
    packed = looks.pack()
    assert packed.shape == (n, 2 * 7 + HASHES_SHAPE[0] * HASHES_SHAPE[1] + num_marks)
    back = unpack(packed, dim=7, hashes_shape=HASHES_SHAPE)
    assert np.array_equal(back.vectors, looks.vectors)
    assert np.array_equal(back.hashes, looks.hashes)
    assert np.array_equal(back.marks, looks.marks)
