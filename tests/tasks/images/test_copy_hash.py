import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from tasks.data.health.bits import reaches
from tasks.images.alterations import ALTERED_COPIES, cropped
from tasks.images.copy_hash import DISTANCE, HASHES_SHAPE, NUM_BITS, copy_hashes

COPY, STRANGER = 48, 80  # bits: near and far in these tests


@pytest.fixture(scope="module")
def scene():
    """Return a function that draws an RGB image by seed, rough at every scale like a photograph."""

    def draw(seed, *, width=200, height=150):
        generator = np.random.default_rng(seed)
        layers = [
            np.asarray(
                Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8)).resize((width, height))
            )
            for side in (2, 4, 8, 16, 32)
        ]
        return Image.fromarray(np.average(layers, axis=0, weights=[16, 8, 4, 2, 1]).astype(np.uint8))

    return draw


def distance(one, other):
    return int(distances(copy_hashes(one)[None], copy_hashes(other)[None])[0])


def distances(one, other):
    return DISTANCE.of_pairs(DISTANCE.words(one), DISTANCE.words(other))


def published_bits(image):
    """Return the bits of pHash, computed step by step as published."""
    scaled = image.convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    frequencies = dctn(np.asarray(scaled, dtype=float))[:16, :16].ravel()
    return frequencies > np.median(frequencies)


def random_hashes(n, *, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *HASHES_SHAPE), dtype=np.uint8)


@pytest.mark.parametrize(("width", "height"), [(40, 80), (200, 120), (320, 240), (1000, 720)])
def test_hashes_differ_from_the_published_method_in_a_few_bits_at_most(scene, width, height):
    image = scene(3, width=width, height=height)
    corners = [(x * width // 40, y * height // 40) for y in (0, 1, 2) for x in (0, 1, 2)]
    views = [image, *(image.crop((x, y, x + width * 19 // 20, y + height * 19 // 20)) for x, y in corners)]
    hashes = np.unpackbits(copy_hashes(image), axis=1)
    differing = [int((bits != published_bits(view)).sum()) for bits, view in zip(hashes, views, strict=True)]
    assert max(differing) <= 12


def test_images_of_one_colour_are_copies_of_each_other():
    hashes = {
        copy_hashes(Image.new("RGB", (width, 40), (level, level, level))).tobytes()
        for width in (32, 100, 300)
        for level in (1, 100, 255)
    }
    assert len(hashes) == 1


@pytest.mark.parametrize("kind", ALTERED_COPIES)
@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_altered_copy_stays_near_its_original(scene, kind, strength):
    assert distance(ALTERED_COPIES[kind](scene(0), strength), scene(0)) <= COPY


@pytest.mark.parametrize("place", [(0.0, 0.0), (1.0, 0.0), (0.25, 0.75), (0.5, 0.5)])
def test_crop_is_near_wherever_it_was_cut_and_on_either_side(scene, place):
    crop = cropped(scene(1), across=place[0], down=place[1])
    assert distance(crop, scene(1)) <= COPY
    assert distance(scene(1), crop) <= COPY


def test_other_images_are_far_away(scene):
    assert min(distance(scene(0), scene(seed)) for seed in range(1, 20)) >= STRANGER


def test_image_has_no_distance_from_itself(scene):
    assert distance(scene(2), scene(2)) == 0


def test_distance_is_the_same_from_either_side():
    one, other = random_hashes(50), random_hashes(50, seed=1)
    assert np.array_equal(distances(one, other), distances(other, one))


def test_distance_is_the_least_over_all_views_and_both_orientations():
    one, other = random_hashes(20), random_hashes(20, seed=1)
    bits = [np.unpackbits(hashes, axis=2) for hashes in (one, other)]
    mirror = np.tile(np.arange(16) % 2, 16)
    expected = [
        min(
            int((a[i] ^ b[j] ^ turned).sum())
            for turned in (0, mirror)
            for i, j in [(0, j) for j in range(10)] + [(i, 0) for i in range(10)]
        )
        for a, b in zip(*bits, strict=True)
    ]
    assert distances(one, other).tolist() == expected


def test_opposite_hashes_differ_in_the_bits_that_mirroring_keeps():
    one = random_hashes(1)
    one[:] = one[:, :1]
    assert distances(one, ~one)[0] == NUM_BITS // 2


@pytest.mark.parametrize("limit", [-1, 0, 90, 100, NUM_BITS])
def test_near_pairs_are_those_within_the_distance(limit):
    one, other = random_hashes(60), random_hashes(40, seed=1)
    one[:5] = other[:5]
    rows, columns = (indices.ravel() for indices in np.indices((60, 40)))
    expected = distances(one[rows], other[columns])
    words = DISTANCE.words(one), DISTANCE.words(other)
    near, near_distances = DISTANCE.near(*words, rows=rows, columns=columns, max_distance=limit)
    assert near.tolist() == np.flatnonzero(expected.astype(int) <= limit).tolist()
    assert np.array_equal(near_distances, expected[near])


@pytest.mark.parametrize("limit", [-1, 0, 40, NUM_BITS])
def test_whole_images_tell_no_near_pair_apart(limit):
    one, other = random_hashes(60), random_hashes(40, seed=1)
    one[:5] = other[:5]
    one[5:9, 0], one[5:9, 1:] = other[5:9, 3], other[5:9, :1]
    rows, columns = (indices.ravel() for indices in np.indices((60, 40)))
    is_near = (distances(one[rows], other[columns]).astype(int) <= limit).reshape(60, 40)
    words = DISTANCE.words(one), DISTANCE.words(other)
    reach = reaches(words[0]), reaches(words[1])
    may_be = DISTANCE.may_be_near(words[0][:, 0], words[1][:, 0], reach=reach, max_distance=limit)
    assert may_be[is_near].all()


def test_one_image_can_be_compared_with_many():
    one, others = random_hashes(1), random_hashes(30, seed=1)
    assert np.array_equal(distances(one, others), distances(np.repeat(one, 30, axis=0), others))


def test_no_pairs_have_no_distances():
    none = random_hashes(0)
    assert distances(none, none).shape == (0,)


@pytest.mark.parametrize("size", [(8, 8), (1, 300), (3000, 40), (64, 64)])
def test_image_of_any_size_has_hashes(scene, size):
    hashes = copy_hashes(scene(0, width=size[0], height=size[1]))
    assert hashes.shape == HASHES_SHAPE
    assert hashes.dtype == np.uint8
