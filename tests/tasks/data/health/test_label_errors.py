import numpy as np

from tasks.data.health.label_errors import find_label_errors, suspect, with_votes

ALL = slice(None)


def log(*rows):
    return np.log(np.array(rows))


def test_label_is_suspected_where_another_class_is_likelier_and_above_its_own_mean():
    found = suspect(
        np.array([0, 0, 0, 1, 1]), log([0.9, 0.1], [0.8, 0.2], [0.05, 0.95], [0.1, 0.9], [0.2, 0.8]), ALL
    )  # fmt: skip
    assert found.is_suspected.tolist() == [False, False, True, False, False]
    assert found.likeliest[2] == 1
    assert found.score.argmax() == 2


def test_class_that_is_likelier_but_not_surer_than_its_own_samples_is_no_suspicion():
    """The classifier is unsure of everything but the second class."""
    found = suspect(np.array([0, 0, 1, 1]), log([0.45, 0.55], [0.9, 0.1], [0.01, 0.99], [0.01, 0.99]), ALL)
    assert not found.is_suspected.any()


def test_second_time_nothing_is_learned_from_suspected_labels_and_both_times_count():
    asked = []

    def judge(kept):
        asked.append(kept.tolist())
        return log([0.9, 0.1], [0.1, 0.9] if kept.all() else [0.3, 0.7], [0.1, 0.9])

    found = find_label_errors(np.array([0, 0, 1]), judge)
    assert asked == [[True, True, True], [True, False, True]]
    np.testing.assert_allclose(found.score, [0.1, 0.8, 0.1])


def test_class_without_labels_is_suggested_to_nobody():
    found = suspect(np.array([0, 0]), log([0.3, 0.7], [0.3, 0.7]), ALL)
    assert not found.is_suspected.any()


def test_votes_of_neighbours_count_as_much_as_the_head():
    joined = np.exp(with_votes(log([0.5, 0.5], [0.5, 0.5]), np.array([[1, 1, 1], [-1, -1, -1]])))
    assert joined[0, 1] > 0.6
    assert joined[1].tolist() == [0.5, 0.5]
    np.testing.assert_allclose(joined.sum(axis=1), 1)
