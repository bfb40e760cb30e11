import numpy as np
import pytest

from tasks.data.health.known import NUM_COMPONENTS, keep
from tasks.data.health.unlike import directions, least_for, limit_of


def features(num, *, seed, peak=0):
    """Return vectors as after a ReLU, whose features from a peak on are larger than the others."""
    made = np.random.default_rng(seed).exponential(size=(num, 16))
    made[:, peak : peak + 4] += 3
    return made.astype(np.float16)


def test_samples_of_another_kind_are_far_away_and_others_are_not():
    known = keep(features(500, seed=0))
    limit = limit_of(known.distances(features(400, seed=1)), level=0.05)
    assert (known.distances(features(1000, seed=2)) > limit).mean() == pytest.approx(0.05, abs=0.03)
    assert (known.distances(features(50, seed=3, peak=8)) > limit).mean() > 0.95


def test_sample_outside_of_the_main_directions_is_far_away_though_its_place_in_them_is_usual():
    generator = np.random.default_rng(0)

    def drawn(num, *, others):
        """Return vectors in 20 of 300 directions; `others` is how much of the others they have."""
        places, noise = generator.normal(size=(num, 20)), generator.normal(size=(num, 300))
        return places @ np.eye(20, 300) * np.sign(noise[:, :1]) + others * noise

    known = keep(drawn(60, others=0.01))
    assert known.references.shape == (60, 15)
    usual, strange = (known.distances(drawn(50, others=share)) for share in (0.01, 0.3))
    assert strange.min() > usual.max()


def test_no_more_than_so_many_directions_are_kept():
    assert keep(np.random.default_rng(0).normal(size=(600, 200))).basis.shape == (200, NUM_COMPONENTS)


def test_no_bit_of_a_distance_depends_on_the_samples_beside_it():
    known, vectors = keep(features(300, seed=0)), features(40, seed=1)
    alone = np.concatenate([known.distances(vectors[n : n + 1]) for n in range(40)])
    assert alone.tobytes() == known.distances(vectors).tobytes()


def test_directions_keep_signs_and_leave_a_vector_of_zeros():
    np.testing.assert_allclose(directions(np.array([[-9.0, 16.0], [0.0, 0.0]])), [[-0.6, 0.8], [0, 0]], rtol=1e-6)


def test_limit_takes_as_many_samples_as_its_level_needs():
    assert least_for(0.01) == 99
    assert limit_of(np.arange(98.0), level=0.01) is None
    assert limit_of(np.arange(99.0), level=0.01) == 98
    assert limit_of(np.arange(199.0), level=0.01) == 197
