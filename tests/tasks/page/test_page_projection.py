import numpy as np
import pytest

from tasks.data.vectors.embeddings import read_embeddings, write_embeddings
from tasks.page.projection import LARGEST, on_plane, project


@pytest.fixture
def part(tmp_path):
    """Return a function that writes the vectors (n, dim) of a batch and reads some of them."""

    def write(vectors, rows=None):
        vectors = np.asarray(vectors, dtype=np.float16)
        write_embeddings(tmp_path / "a.safetensors", [vectors], shape=vectors.shape, recipe="made up")
        embeddings = read_embeddings(tmp_path, ["a"], num_samples=len(vectors))
        return embeddings.part(np.arange(len(vectors)) if rows is None else np.asarray(rows))

    return write


def test_longest_direction_is_horizontal_and_both_axes_have_one_scale(part):
    rng = np.random.default_rng(0)
    vectors = np.zeros((500, 6))
    vectors[:, 3] = rng.uniform(-8, 8, 500)
    vectors[:, 1] = rng.uniform(-2, 2, 500)
    places = project(part(vectors)).astype(float)
    assert np.ptp(places[:, 0]) > 0.85 * LARGEST
    assert np.ptp(places[:, 1]) == pytest.approx(np.ptp(places[:, 0]) / 4, rel=0.05)
    assert np.corrcoef(places[:, 0], vectors[:, 3])[0, 1] > 0.999  # not mirrored


def test_same_vectors_give_the_same_places(part):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 700)) * np.linspace(5, 0.1, 700)
    assert (project(part(vectors)) == project(part(vectors))).all()


def test_places_are_those_of_the_chosen_rows(part):
    vectors = np.random.default_rng(0).normal(size=(20, 4))
    backwards = np.arange(20)[::-1]
    assert np.abs(project(part(vectors)).astype(int) - project(part(vectors, backwards))[::-1].astype(int)).max() <= 1


@pytest.mark.parametrize("vectors", [np.ones((5, 3)), np.ones((1, 3)), np.arange(4)[:, None]])
def test_vectors_that_span_no_plane_are_in_its_middle(part, vectors):
    assert (project(part(vectors)) == round(LARGEST / 2)).all()


def test_outlier_is_drawn_on_the_edge_and_does_not_squeeze_the_others():
    places = np.random.default_rng(0).uniform(-1, 1, (5000, 2))
    places[0] = 1e6
    scaled = on_plane(places)
    assert scaled[0].tolist() == [LARGEST, LARGEST]
    assert np.ptp(scaled[1:, 0].astype(float)) > 0.85 * LARGEST


def test_no_samples_have_no_places():
    assert on_plane(np.zeros((0, 2))).shape == (0, 2)
