import numpy as np
import pytest

from tasks.data.health.bits import hash_words
from tasks.data.health.near_duplicates import Side, find_twins
from tasks.images.perceptual_hash import DISTANCE, HASHES_SHAPE

NUM_LEFT, NUM_RIGHT, DIM = 150, 70, 24


@pytest.fixture(scope="module")
def sides():
    """Two sets with twins among them: some rows of the left are rows of the right with a little noise."""
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
    """By left row: its nearest twin as (right row, cosine, distance)."""
    found = {}
    for row in range(len(left.vectors)):
        one, others = left.vectors[row].astype(np.float64), right.vectors.astype(np.float64)
        cosines = others @ one / (np.linalg.norm(others, axis=1) * np.linalg.norm(one))
        distances = DISTANCE.of_pairs(hash_words(left.hashes[[row]]), hash_words(right.hashes))
        twins = [
            (int(distances[each]), -cosines[each], each)
            for each in range(len(others))
            if cosines[each] >= min_cosine and distances[each] <= max_distance
        ]
        if twins:
            distance, cosine, twin = min(twins)
            found[row] = (twin, pytest.approx(-cosine, abs=1e-12), distance)
    return found


def as_dict(pairs):
    return {
        int(row): (int(twin), float(cosine), int(distance))
        for row, twin, cosine, distance in zip(pairs.left, pairs.right, pairs.cosine, pairs.distance, strict=True)
    }


@pytest.mark.parametrize(("min_cosine", "max_distance"), [(0.9, 40), (0.5, 100), (-1.0, 256), (0.99, 16)])
def test_twins_are_those_of_brute_force(sides, min_cosine, max_distance):
    left, right = sides
    found = find_twins(left, right, distance=DISTANCE, min_cosine=min_cosine, max_distance=max_distance)
    assert as_dict(found.left) == brute_force(left, right, min_cosine=min_cosine, max_distance=max_distance)
    assert as_dict(found.right.swapped()) == brute_force(right, left, min_cosine=min_cosine, max_distance=max_distance)


@pytest.mark.parametrize("tile", [(1, 1), (7, 11), (150, 3), (1000, 1000)])
def test_way_the_work_is_cut_does_not_change_a_bit(sides, tile):
    whole = find_twins(*sides, distance=DISTANCE, min_cosine=0.5, max_distance=110)
    cut = find_twins(*sides, distance=DISTANCE, min_cosine=0.5, max_distance=110, tile=tile)
    for one, other in ((whole.left, cut.left), (whole.right, cut.right)):
        for name in ("left", "right", "cosine", "distance"):
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes()


def test_cosine_at_the_limit_itself_is_let_through(sides):
    left, right = sides
    all_of_them = find_twins(left, right, distance=DISTANCE, min_cosine=-1.0, max_distance=256)
    limit = float(all_of_them.left.cosine[0])
    kept = find_twins(left, right, distance=DISTANCE, min_cosine=limit, max_distance=256).left
    assert 0 in kept.left.tolist()
    above = np.nextafter(limit, 2.0)
    assert limit not in find_twins(left, right, distance=DISTANCE, min_cosine=above, max_distance=256).left.cosine


def test_near_hash_alone_or_large_cosine_alone_is_no_twin(sides):
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
    found = find_twins(left, right, distance=DISTANCE, min_cosine=-1.0, max_distance=256)
    assert len(found.left) == len(found.right) == 0


def test_vectors_of_zeros_are_nobodys_twins(sides):
    left, right = sides
    blank = Side(vectors=np.zeros_like(left.vectors), hashes=left.hashes)
    assert len(find_twins(blank, right, distance=DISTANCE, min_cosine=0.5, max_distance=256).left) == 0


def test_among_equal_twins_the_first_is_named():
    hashes = np.zeros((3, *HASHES_SHAPE), dtype=np.uint8)
    same = Side(vectors=np.ones((3, 4), dtype=np.float16), hashes=hashes)
    found = find_twins(same, same, distance=DISTANCE, min_cosine=0.9, max_distance=0, tile=(2, 2))
    assert found.left.right.tolist() == [0, 0, 0]
    assert found.right.left.tolist() == [0, 0, 0]
