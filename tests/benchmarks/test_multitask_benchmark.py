"""The benchmark of several targets: its draws of labels and its planted problem."""

import numpy as np
import pytest

from benchmarks.kit.several_targets import NUM_CLASSES, draw, planted


@pytest.mark.parametrize("num", [31, 156])
def test_draw_has_every_class_in_train_and_other_rows_in_val(num):
    labels = np.random.default_rng(0).integers(0, NUM_CLASSES, 900)
    pool = np.arange(400)
    train, val = draw(np.random.default_rng(1), labels, pool, num)
    assert set(labels[train]) == set(range(NUM_CLASSES))
    assert (len(train), len(val)) == (num, num // 4)
    assert not set(train) & set(val)
    assert set(train) | set(val) <= set(pool)


@pytest.mark.parametrize("related", [True, False])
def test_planted_targets_have_every_class_and_depend_on_the_seed_alone(related):
    vectors, labels = planted(np.random.default_rng(0), num_targets=3, related=related)
    again, same = planted(np.random.default_rng(0), num_targets=3, related=related)
    assert np.array_equal(vectors, again)
    assert all(np.array_equal(one, other) for one, other in zip(labels, same, strict=True))
    assert all(set(own) == set(range(NUM_CLASSES)) for own in labels)
