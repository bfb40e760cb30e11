import numpy as np
import pytest
from safetensors.numpy import save_file

from tasks.data.vectors.embeddings import pair_cosines, read_embeddings, write_embeddings


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)


def test_vectors_come_back_in_half_precision(tmp_path, vectors):
    write_embeddings(tmp_path / "a.safetensors", [vectors.astype(np.float16)], shape=vectors.shape, recipe="r")
    back = read_embeddings(tmp_path, ["a"], num_samples=5)[:]
    assert back.dtype == np.float32
    assert np.array_equal(back, vectors.astype(np.float16).astype(np.float32))


def test_every_number_of_half_precision_comes_back_as_it_is(tmp_path):
    numbers = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(512, 128)
    write_embeddings(tmp_path / "a.safetensors", [numbers], shape=numbers.shape, recipe="r")
    back = read_embeddings(tmp_path, ["a"], num_samples=512)[:]
    assert np.array_equal(back.view(np.uint32), numbers.astype(np.float32).view(np.uint32))  # not a number, too


def test_batches_are_joined_in_the_requested_order(tmp_path, vectors):
    write_embeddings(tmp_path / "a.safetensors", [vectors.astype(np.float16)], shape=vectors.shape, recipe="r")
    write_embeddings(
        tmp_path / "b.safetensors", [(-vectors[:2]).astype(np.float16)], shape=(-vectors[:2]).shape, recipe="r"
    )
    expected = np.concatenate([-vectors[:2], vectors]).astype(np.float16)
    assert np.array_equal(read_embeddings(tmp_path, ["b", "a"], num_samples=7)[:], expected)


def test_batch_without_samples_has_no_vectors(tmp_path):
    write_embeddings(
        tmp_path / "a.safetensors",
        [np.empty((0, 7), dtype=np.float32).astype(np.float16)],
        shape=np.empty((0, 7), dtype=np.float32).shape,
        recipe="r",
    )
    assert read_embeddings(tmp_path, ["a"], num_samples=0).shape == (0, 7)


def test_equal_vectors_give_equal_bytes(tmp_path, vectors):
    for name in "ab":
        write_embeddings(
            tmp_path / f"{name}.safetensors", [vectors.astype(np.float16)], shape=vectors.shape, recipe="r"
        )
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_error_for_a_listed_batch_without_embeddings_names_its_file(tmp_path, vectors):
    write_embeddings(tmp_path / "a.safetensors", [vectors.astype(np.float16)], shape=vectors.shape, recipe="r")
    with pytest.raises(ValueError, match=r"b\.safetensors is missing, though batch b is listed"):
        read_embeddings(tmp_path, ["a", "b"], num_samples=10)


def test_vectors_of_different_backbones_are_not_mixed(tmp_path, vectors):
    write_embeddings(tmp_path / "a.safetensors", [vectors.astype(np.float16)], shape=vectors.shape, recipe="one")
    write_embeddings(tmp_path / "b.safetensors", [vectors.astype(np.float16)], shape=vectors.shape, recipe="other")
    with pytest.raises(ValueError, match="batches a, b were embedded by different backbones: run embed again"):
        read_embeddings(tmp_path, ["a", "b"], num_samples=10)


@pytest.mark.parametrize("length", [0, 5, 60, -1])
def test_error_for_a_torn_file_names_it(tmp_path, vectors, length):
    path = tmp_path / "a.safetensors"
    write_embeddings(path, [vectors.astype(np.float16)], shape=vectors.shape, recipe="r")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"a\.safetensors is not a whole file of embeddings .*: remove it"):
        read_embeddings(tmp_path, ["a"], num_samples=5)


def test_error_for_a_safetensors_file_without_embeddings_names_it(tmp_path, vectors):
    save_file({"weight": vectors}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"a\.safetensors"):
        read_embeddings(tmp_path, ["a"], num_samples=5)


def test_embeddings_of_another_manifest_are_refused(tmp_path, vectors):
    write_embeddings(tmp_path / "a.safetensors", [vectors.astype(np.float16)], shape=vectors.shape, recipe="r")
    with pytest.raises(ValueError, match="5 embeddings for 6 samples: run embed again"):
        read_embeddings(tmp_path, ["a"], num_samples=6)


def test_cosines_are_taken_pair_by_pair():
    left = np.array([[3.0, 0.0], [1.0, 1.0], [2.0, 0.0], [0.0, 0.0]], dtype=np.float16)
    right = np.array([[1.0, 0.0], [1.0, 0.0], [-5.0, 0.0], [1.0, 0.0]], dtype=np.float16)
    assert pair_cosines(left, right).tolist() == pytest.approx([1.0, 0.5**0.5, -1.0, 0.0])


@pytest.mark.parametrize(
    "rows",
    [
        [0], [6, 0, 3], [2, 2, 5], [], list(range(6, -1, -1)), [0, 900], [899, 1, 450, 451],
        [5, 5, 7], [7, 7, 7, 9, 10, 10], [5, 5, 6, 900], [900, 5, 5, 5, 6, 450, 450],
    ],
)  # fmt: skip
def test_rows_are_returned_in_the_requested_order_and_number(tmp_path, rows):
    whole = np.random.default_rng(0).normal(size=(901, 7)).astype(np.float16)
    for name, part in (("a", whole[:4]), ("b", whole[4:4]), ("c", whole[4:])):
        write_embeddings(tmp_path / f"{name}.safetensors", [part], shape=part.shape, recipe="r")
    vectors = read_embeddings(tmp_path, ["a", "b", "c"], num_samples=901)
    wanted = np.array(rows, dtype=np.int64)
    assert np.array_equal(vectors[wanted], whole[wanted])
    assert np.array_equal(vectors.part(np.arange(901)[::-1])[wanted], whole[::-1][wanted])


def test_error_for_a_file_cut_short_while_it_is_read_names_it(tmp_path, vectors):
    path = tmp_path / "a.safetensors"
    write_embeddings(path, [vectors.astype(np.float16)], shape=vectors.shape, recipe="r")
    embeddings = read_embeddings(tmp_path, ["a"], num_samples=5)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"a\.safetensors was cut short while it was read"):
        embeddings[:]
