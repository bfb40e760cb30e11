from dataclasses import replace

import numpy as np
import pytest

from tasks.data.health.hashes import Probes
from tasks.data.health.options import TwinOptions
from tasks.data.health.twin_limits import fit_strangers, reach, recall_by_kind, set_limits
from tasks.images.copy_hash import DISTANCE, HASHES_SHAPE

OPTIONS = TwinOptions(recall=0.99, max_false_alarms=0.001)


def hashes(n, *, seed=0, copies_of=None, num_copies=0):
    """Return random hashes (n, …), the first `num_copies` copied from another set."""
    hashes = np.random.default_rng(seed).integers(0, 256, (n, *HASHES_SHAPE), dtype=np.uint8)
    if copies_of is not None:
        hashes[:num_copies] = copies_of[:num_copies]
    return hashes


def probes(*, cosines=(0.9, 1.0), distances=(0, 40), n=200):
    spread = np.linspace(0, 1, n)[:, None].repeat(2, axis=1)
    return Probes(
        kinds=("flipped", "cropped"),
        cosines=(cosines[0] + (cosines[1] - cosines[0]) * spread).astype(np.float32),
        distances=np.round(distances[0] + (distances[1] - distances[0]) * (1 - spread)).astype(np.uint16),
    )


@pytest.mark.parametrize("recall", [0.5, 0.9, 0.99])
def test_reach_catches_the_requested_share(recall):
    min_cosine, max_distance = reach(probes(), recall=recall)
    recalls = recall_by_kind(probes(), min_cosine=min_cosine, max_distance=max_distance)
    assert set(recalls) == {"flipped", "cropped"}
    assert all(reached >= recall for reached in recalls.values())


def test_outlier_of_a_small_batch_does_not_set_the_limits_of_a_large_one():
    distances = np.full((40, 2), 30, dtype=np.uint16)
    distances[-1] = 90
    cosines = np.full((40, 2), 0.9, dtype=np.float32)
    weights = np.array([200.0] * 32 + [50.0] * 8)
    found = Probes(kinds=("flipped", "cropped"), cosines=cosines, distances=distances, weights=weights)
    assert reach(found, recall=0.98)[1] == 30
    assert reach(replace(found, weights=None), recall=0.98)[1] == 90


def test_least_cosine_is_a_little_wider_than_the_copies_need_and_stays_where_new_copies_land():
    nights = np.random.default_rng(0).normal(0.9, 0.02, (100, 32, 5)).clip(max=1).astype(np.float32)
    limits = set()
    for night in range(20, 100):
        cosines = nights[:night].reshape(-1, 5)
        given = Probes(kinds=tuple("abcde"), cosines=cosines, distances=np.zeros(cosines.shape, np.uint16))
        min_cosine, _ = reach(given, recall=0.98)
        needed = np.quantile(cosines, 0.01, method="inverted_cdf")
        assert 1 - needed <= 1 - min_cosine < 1.1 * (1 - needed)
        limits.add(min_cosine)
    assert len(limits) <= 3


@pytest.mark.parametrize("cosine", [1.0, np.float32(1.0000001), 0.0, -1.0])
def test_least_cosine_of_equal_copies_and_of_opposite_ones(cosine):
    given = Probes(kinds=("same",), cosines=np.full((4, 1), cosine, np.float32), distances=np.zeros((4, 1), np.uint16))
    min_cosine, _ = reach(given, recall=0.98)
    assert min_cosine == pytest.approx(cosine, abs=1e-6)
    assert recall_by_kind(given, min_cosine=min_cosine, max_distance=0) == {"same": 1.0}


def test_copies_set_the_limits_if_strangers_are_far():
    limits = set_limits(probes(), hashes(300), hashes(100, seed=1), distance=DISTANCE, options=OPTIONS)
    assert limits.max_distance == limits.copies_within
    assert limits.copies_within in (39, 40)
    assert limits.strangers_beyond > 60
    assert limits.false_alarms < 0.001


def test_strangers_narrow_the_limits_if_copies_are_as_far():
    limits = set_limits(
        probes(distances=(0, 120)),
        hashes(300),
        hashes(100, seed=1),
        distance=DISTANCE,
        options=OPTIONS,
    )
    assert limits.max_distance == limits.strangers_beyond < limits.copies_within
    assert limits.false_alarms <= 0.001
    assert max(limits.recall.values()) < 0.9


def test_predicted_share_of_strangers_is_rather_too_large_than_too_small():
    left, right = hashes(400), hashes(200, seed=1)
    nearest = np.array(
        [DISTANCE.of_pairs(DISTANCE.words(sample[None]), DISTANCE.words(right)).min() for sample in left]
    )
    fitted = fit_strangers(left, right, distance=DISTANCE)
    for distance in (88, 92, 96):
        assert 0.5 < fitted.share_within(distance) / (nearest <= distance).mean() < 4


def test_true_copies_hardly_change_the_limit_from_strangers():
    right = hashes(100, seed=1)
    clean = fit_strangers(hashes(400), right, distance=DISTANCE).limit(max_share=0.001)
    spoilt = fit_strangers(hashes(400, copies_of=right, num_copies=100), right, distance=DISTANCE).limit(
        max_share=0.001
    )
    assert abs(clean - spoilt) <= 2


def test_burst_of_one_image_does_not_narrow_the_limits():
    """Six held-out samples and ten others are one image."""
    right, left = hashes(100, seed=1), hashes(400)
    clean = fit_strangers(left, right, distance=DISTANCE).limit(max_share=0.001)
    right[:6] = right[0]
    left[:10] = right[0]
    assert abs(fit_strangers(left, right, distance=DISTANCE).limit(max_share=0.001) - clean) <= 3


def test_no_distance_is_near_enough_if_all_images_are_one():
    same = np.zeros((50, *HASHES_SHAPE), dtype=np.uint8)
    limits = set_limits(probes(), same, same, distance=DISTANCE, options=OPTIONS)
    assert limits.max_distance == -1
    assert set(limits.recall.values()) == {0.0}


@pytest.mark.parametrize("num_right", [0, 1, 5])
def test_few_held_out_samples_leave_the_limit_to_the_copies(num_right):
    limits = set_limits(probes(), hashes(30), hashes(num_right), distance=DISTANCE, options=OPTIONS)
    assert limits.strangers_beyond is None
    assert limits.max_distance == limits.copies_within
