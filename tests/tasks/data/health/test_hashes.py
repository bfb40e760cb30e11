import numpy as np
import pytest

from tasks.data.health.hashes import Probes, read_hashes, read_marks, write_hashes
from tasks.images.copy_hash import HASHES_SHAPE


def write(folder, batch, *, n=4, num_probed=2, seed=0, marks=None):
    generator = np.random.default_rng(seed)
    hashes = generator.integers(0, 256, (n, *HASHES_SHAPE), dtype=np.uint8)
    probes = Probes(
        kinds=("flipped", "cropped"),
        cosines=generator.random((num_probed, 2), dtype=np.float32),
        distances=generator.integers(0, 99, (num_probed, 2), dtype=np.uint16),
    )
    write_hashes(folder / f"{batch}.safetensors", [hashes], shape=hashes.shape, probes=probes, marks=marks)
    return hashes, probes


def test_batches_are_joined_in_the_requested_order(tmp_path):
    first, first_probes = write(tmp_path, "a")
    second, second_probes = write(tmp_path, "b", n=3, seed=1)
    hashes, probes = read_hashes(tmp_path, ["b", "a"], num_samples=7)
    assert np.array_equal(hashes, np.concatenate([second, first]))
    assert np.array_equal(probes.cosines, np.concatenate([second_probes.cosines, first_probes.cosines]))
    assert np.array_equal(probes.distances, np.concatenate([second_probes.distances, first_probes.distances]))
    assert probes.kinds == ("flipped", "cropped")


def test_batch_without_samples_has_no_hashes(tmp_path):
    write(tmp_path, "a", n=0, num_probed=0)
    hashes, probes = read_hashes(tmp_path, ["a"], num_samples=0)
    assert hashes.shape == (0, *HASHES_SHAPE)
    assert probes.cosines.shape == (0, 2)


def test_hashes_of_another_manifest_are_refused(tmp_path):
    write(tmp_path, "a")
    with pytest.raises(ValueError, match="4 hashes for 5 samples: run embed again"):
        read_hashes(tmp_path, ["a"], num_samples=5)


def test_error_for_a_listed_batch_without_hashes_names_its_file(tmp_path):
    with pytest.raises(ValueError, match=r"a\.safetensors is missing, though batch a is listed: run `dvc pull"):
        read_hashes(tmp_path, ["a"], num_samples=5)


def test_error_for_a_torn_file_names_it(tmp_path):
    write(tmp_path, "a")
    path = tmp_path / "a.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"a\.safetensors is not a whole file of hashes .*: remove it"):
        read_hashes(tmp_path, ["a"], num_samples=4)


def test_equal_hashes_give_equal_bytes(tmp_path):
    for batch in "ab":
        write(tmp_path, batch)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_marks_of_texts_stand_beside_the_hashes_and_images_have_none(tmp_path):
    marks = np.array([[0, 7], [1, 255], [0, 0], [1, 0]], dtype=np.uint8)
    write(tmp_path, "a", marks=marks)
    write(tmp_path, "b")
    assert np.array_equal(read_marks(tmp_path, "a"), marks)
    assert read_marks(tmp_path, "b") is None
    assert len(read_hashes(tmp_path, ["a"], num_samples=4)[0]) == 4
