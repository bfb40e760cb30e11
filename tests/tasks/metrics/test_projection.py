import numpy as np
import pytest

from tasks.metrics.projection import LARGEST, on_plane, project


def of(features):
    return project(np.asarray(features, dtype=np.float16))


def test_longest_direction_is_horizontal_and_both_axes_have_one_scale():
    rng = np.random.default_rng(0)
    features = np.zeros((500, 6))
    features[:, 3] = rng.uniform(-8, 8, 500)
    features[:, 1] = rng.uniform(-2, 2, 500)
    places = of(features).astype(float)
    assert np.ptp(places[:, 0]) > 0.65 * LARGEST
    assert np.ptp(places[:, 1]) == pytest.approx(np.ptp(places[:, 0]) / 4, rel=0.1)
    assert np.corrcoef(places[:, 0], features[:, 3])[0, 1] > 0.999  # not mirrored


def test_same_features_give_the_same_places():
    features = np.random.default_rng(0).normal(size=(300, 700)) * np.linspace(5, 0.1, 700)
    assert (of(features) == of(features)).all()


def test_order_of_the_samples_moves_none():
    features = np.random.default_rng(0).normal(size=(20, 4))
    assert np.abs(of(features).astype(int) - of(features[::-1])[::-1].astype(int)).max() <= 1


@pytest.mark.parametrize("features", [np.ones((5, 3)), np.ones((1, 3)), np.arange(4)[:, None]])
def test_features_that_span_no_plane_are_in_its_middle(features):
    assert (of(features) == round(LARGEST / 2)).all()


def test_far_outliers_neither_turn_the_map_nor_squeeze_the_others():
    rng = np.random.default_rng(0)
    classes = np.repeat([[-4, 0, 0], [4, 0, 0]], 50, axis=0)
    features = classes + rng.normal(scale=0.5, size=(100, 3))
    features[:2] = [0, 0, 30_000]
    places = of(features).astype(float)[2:]
    assert abs(places[:48, 0].mean() - places[48:, 0].mean()) > 0.5 * LARGEST


def test_outlier_is_drawn_on_the_edge():
    places = np.random.default_rng(0).uniform(-1, 1, (5000, 2))
    places[0] = 1e6
    assert on_plane(places)[0].tolist() == [LARGEST, LARGEST]


def test_no_samples_have_no_places():
    assert on_plane(np.zeros((0, 2))).shape == (0, 2)
