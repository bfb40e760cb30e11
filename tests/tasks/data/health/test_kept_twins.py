"""Twins that were kept: every search gives the bits of one from scratch, and compares what is new alone."""

import hashlib

import numpy as np
import pytest

from tasks.data.health.kept_twins import Batch, find_twins_of_new
from tasks.data.health.near_duplicates import Side, find_twins
from tasks.images.copy_hash import DISTANCE, HASHES_SHAPE

DIM = 16
LIMITS = {"distance": DISTANCE, "min_cosine": 0.8, "max_distance": 60}


class Counted:
    """Vectors that count the rows which are read."""

    def __init__(self, vectors):
        self.vectors, self.num_read = vectors, 0
        self.shape = vectors.shape

    def __len__(self):
        return len(self.vectors)

    def __getitem__(self, rows):
        read = self.vectors[rows]
        self.num_read += len(read)
        return read


@pytest.fixture
def batch():
    """Return a function that makes a batch; its samples are copies of a few patterns, some of them equal."""
    patterns = np.random.default_rng(0)
    vectors = patterns.normal(size=(12, DIM))
    hashes = patterns.integers(0, 256, (12, *HASHES_SHAPE), dtype=np.uint8)

    def make(seed, num_left=30, num_right=12):
        draws = np.random.default_rng(seed)
        drawn = draws.integers(0, 12, num_left + num_right)
        noise = draws.normal(size=(len(drawn), DIM)) * draws.choice([0, 0.1, 0.4], (len(drawn), 1))
        own_vectors, own_hashes = (vectors[drawn] + noise).astype(np.float16), hashes[drawn]
        own_hashes[:, :, 0] ^= draws.choice([0, 1, 7, 255], (len(drawn), 1)).astype(np.uint8)
        digest = hashlib.sha256(own_vectors.tobytes() + own_hashes.tobytes() + bytes([num_left])).hexdigest()
        cut = (slice(0, num_left), slice(num_left, None))
        left, right = (Side(vectors=own_vectors[rows], hashes=own_hashes[rows]) for rows in cut)
        return Batch(digest=digest, num_left=num_left, num_right=num_right), left, right

    return make


def sides_of(batches):
    return [
        Side(
            vectors=Counted(np.concatenate([given[side].vectors for given in batches])),
            hashes=np.concatenate([given[side].hashes for given in batches]),
        )
        for side in (1, 2)
    ]


@pytest.fixture
def search(tmp_path):
    """Return a function that searches in batches, checks every bit, and returns how many left rows were read."""

    def run(batches, *, code="code", **limits):
        left, right = sides_of(batches)
        listed = [given[0] for given in batches]
        twins = find_twins_of_new(
            left, right, batches=listed, kept=tmp_path / "scratch/twins", code=code, **LIMITS | limits
        )
        num_read = left.vectors.num_read
        expected = find_twins(left, right, **LIMITS | limits)
        for one, other in ((twins.left, expected.left), (twins.right, expected.right)):
            for name in ("left", "right", "cosine", "distance"):
                assert getattr(one, name).dtype == getattr(other, name).dtype
                assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
        assert len(expected.left)
        return num_read

    return run


def test_batches_that_land_one_by_one_have_the_twins_of_a_search_from_scratch(search, batch):
    batches = [batch(0)]
    search(batches)
    for seed in range(1, 6):
        batches.append(batch(seed))
        search(batches)
    search([*batches[:2], batch(9), *batches[2:]])  # a batch may be listed before others


def test_only_what_is_new_is_compared(search, batch):
    batches = [batch(0, num_left=200), batch(1, num_left=200)]
    assert search(batches) >= 400
    assert search(batches) == 0
    assert 0 < search([*batches, batch(2, num_left=9, num_right=0)]) < 200


@pytest.mark.parametrize("change", ["changed", "removed", "swapped"])
def test_batches_that_changed_are_compared_from_scratch(search, batch, change):
    batches = [batch(seed) for seed in range(3)]
    search(batches)
    other = {"changed": [batches[0], batch(7), batches[2]], "removed": batches[1:], "swapped": batches[::-1]}[change]
    assert search(other) >= 30 * len(other)


def test_twins_of_other_limits_or_of_other_code_do_not_count(search, batch):
    batches = [batch(0), batch(1)]
    search(batches)
    assert search(batches, max_distance=30) >= 60
    assert search(batches, max_distance=30, min_cosine=0.9) >= 60
    assert search(batches, max_distance=30, min_cosine=0.9, code="edited") >= 60


@pytest.mark.parametrize("damage", ["cut", "flipped", "other"])
def test_damaged_file_does_not_count(search, batch, tmp_path, damage):
    batches = [batch(0), batch(1)]
    search(batches)
    [file] = (tmp_path / "scratch/twins").iterdir()
    content = file.read_bytes()
    flipped = content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]
    file.write_bytes({"cut": content[:-8], "flipped": flipped, "other": b"nothing of the kind"}[damage])
    assert search(batches) >= 60
    assert search(batches) == 0
