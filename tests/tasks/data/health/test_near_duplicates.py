import numpy as np
import pytest

from tasks.data.health.near_duplicates import Side, find_twins
from tasks.images.copy_hash import DISTANCE, HASHES_SHAPE

NUM_LEFT, NUM_RIGHT, DIM = 150, 70, 24


@pytest.fixture(scope="module")
def sides():
    """Return two sets with twins: some rows of the left are rows of the right with a little noise."""
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(NUM_LEFT + NUM_RIGHT, DIM)) + 1.0
    hashes = generator.integers(0, 256, (NUM_LEFT + NUM_RIGHT, *HASHES_SHAPE), dtype=np.uint8)
    for row in range(40):
        twin = NUM_LEFT + row * 3 % NUM_RIGHT
        vectors[row] = vectors[twin] + generator.normal(size=DIM) * 0.1
        hashes[row] = hashes[twin]
        hashes[row, :, : row % 8] ^= 5
    both = Side(vectors=vectors.astype(np.float16), hashes=hashes)
    return part(both, slice(0, NUM_LEFT)), part(both, slice(NUM_LEFT, None))


def part(samples, rows):
    return Side(vectors=samples.vectors[rows], hashes=samples.hashes[rows])


def brute_force(left, right, *, min_cosine, max_distance):
    """Return the nearest twin of each left row as (right row, cosine, distance)."""
    nearest = {}
    for row in range(len(left.vectors)):
        one, others = left.vectors[row].astype(np.float64), right.vectors.astype(np.float64)
        cosines = others @ one / (np.linalg.norm(others, axis=1) * np.linalg.norm(one))
        distances = DISTANCE.of_pairs(DISTANCE.words(left.hashes[[row]]), DISTANCE.words(right.hashes))
        twins = [
            (int(distances[other]), -cosines[other], other)
            for other in range(len(others))
            if cosines[other] >= min_cosine and distances[other] <= max_distance
        ]
        if twins:
            distance, cosine, twin = min(twins)
            nearest[row] = (twin, pytest.approx(-cosine, abs=1e-12), distance)
    return nearest


def as_dict(pairs):
    return {
        int(row): (int(twin), float(cosine), int(distance))
        for row, twin, cosine, distance in zip(pairs.left, pairs.right, pairs.cosine, pairs.distance, strict=True)
    }


@pytest.mark.parametrize(("min_cosine", "max_distance"), [(0.9, 40), (0.5, 100), (-1.0, 256), (0.99, 16)])
def test_twins_are_those_of_brute_force(sides, min_cosine, max_distance):
    left, right = sides
    twins = find_twins(left, right, distance=DISTANCE, min_cosine=min_cosine, max_distance=max_distance)
    assert as_dict(twins.left) == brute_force(left, right, min_cosine=min_cosine, max_distance=max_distance)
    assert as_dict(twins.right.swapped()) == brute_force(right, left, min_cosine=min_cosine, max_distance=max_distance)


@pytest.mark.parametrize("min_cosine", [0.95, 0.5, -1.0])
def test_twins_of_vectors_of_few_directions_are_those_of_brute_force(sides, min_cosine):
    """So many samples are compared in their main directions, and where many are alike, by their hashes first."""
    generator = np.random.default_rng(1)
    turn = np.linalg.qr(generator.normal(size=(DIM, DIM)))[0] * np.geomspace(1, 1e-3, DIM)[:, None]
    many = [
        Side(vectors=np.repeat(side.vectors, 3, axis=0) @ turn, hashes=np.repeat(side.hashes, 3, axis=0))
        for side in sides
    ]
    twins = find_twins(*many, distance=DISTANCE, min_cosine=min_cosine, max_distance=60)
    assert as_dict(twins.left) == brute_force(*many, min_cosine=min_cosine, max_distance=60)


@pytest.mark.parametrize("tile", [(1, 1), (7, 11), (150, 3), (1000, 1000)])
def test_size_of_the_blocks_does_not_change_a_bit(sides, tile):
    whole = find_twins(*sides, distance=DISTANCE, min_cosine=0.5, max_distance=110)
    cut = find_twins(*sides, distance=DISTANCE, min_cosine=0.5, max_distance=110, tile=tile)
    for one, other in ((whole.left, cut.left), (whole.right, cut.right)):
        for name in ("left", "right", "cosine", "distance"):
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes()


def test_pair_exactly_at_the_limit_is_a_twin(sides):
    left, right = sides
    all_of_them = find_twins(left, right, distance=DISTANCE, min_cosine=-1.0, max_distance=256)
    limit = float(all_of_them.left.cosine[0])
    kept = find_twins(left, right, distance=DISTANCE, min_cosine=limit, max_distance=256).left
    assert 0 in kept.left.tolist()
    above = np.nextafter(limit, 2.0)
    assert limit not in find_twins(left, right, distance=DISTANCE, min_cosine=above, max_distance=256).left.cosine


def test_pair_with_only_a_near_hash_or_only_a_large_cosine_is_not_a_twin(sides):
    left, right = sides
    other_hashes = Side(vectors=left.vectors, hashes=left.hashes ^ 0x3C)
    other_vectors = Side(vectors=-left.vectors, hashes=left.hashes)
    for changed in (other_hashes, other_vectors):
        assert len(find_twins(changed, right, distance=DISTANCE, min_cosine=0.9, max_distance=40).left) == 0


@pytest.mark.parametrize("empty", ["left", "right", "both"])
def test_empty_side_has_no_twins(sides, empty):
    left, right = (
        part(side, slice(0, 0)) if empty in (name, "both") else side
        for name, side in zip(("left", "right"), sides, strict=True)
    )
    twins = find_twins(left, right, distance=DISTANCE, min_cosine=-1.0, max_distance=256)
    assert len(twins.left) == len(twins.right) == 0


def test_vectors_of_zeros_have_no_twins(sides):
    left, right = sides
    blank = Side(vectors=np.zeros_like(left.vectors), hashes=left.hashes)
    assert len(find_twins(blank, right, distance=DISTANCE, min_cosine=0.5, max_distance=256).left) == 0


def test_first_of_equal_twins_is_chosen():
    hashes = np.zeros((3, *HASHES_SHAPE), dtype=np.uint8)
    same = Side(vectors=np.ones((3, 4), dtype=np.float16), hashes=hashes)
    twins = find_twins(same, same, distance=DISTANCE, min_cosine=0.9, max_distance=0, tile=(2, 2))
    assert twins.left.right.tolist() == [0, 0, 0]
    assert twins.right.left.tolist() == [0, 0, 0]
