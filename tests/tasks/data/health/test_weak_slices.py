import numpy as np

from tasks.data.health.confusions import confusions
from tasks.data.health.weak_slices import weak_slices


def groups():
    generator = np.random.default_rng(0)
    centres = np.repeat(np.eye(4) * 10, 150, axis=0)
    return centres + generator.normal(size=centres.shape), generator


def test_group_that_is_answered_worse_is_found_with_the_wrong_answers_at_its_centre():
    components, generator = groups()
    is_wrong = generator.random(600) < 0.05
    is_wrong[:150] = generator.random(150) < 0.6
    found = weak_slices(components, is_wrong, significance=0.01, seed=0)
    assert found
    assert all((part.rows < 150).all() and is_wrong[part.rows].all() for part in found)
    assert found[0].error > 0.4


def test_chance_makes_no_weak_group():
    components, generator = groups()
    assert weak_slices(components, generator.random(600) < 0.1, significance=0.01, seed=0) == []
    assert weak_slices(components, np.zeros(600, bool), significance=0.01, seed=0) == []
    assert weak_slices(components[:20], np.ones(20, bool), significance=0.01, seed=0) == []


def test_confused_classes_are_counted_in_both_directions():
    answers = np.array([1, 0, 2, 2, 0, 1])
    labels = np.array([0, 1, 2, 2, 0, 0])
    [pair] = confusions(labels, np.eye(3)[answers], names=["cat", "lynx", "dog"])
    assert pair == {"one": "cat", "other": "lynx", "num": 3, "share": 0.75}
