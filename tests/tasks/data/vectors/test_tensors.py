import numpy as np
import pytest
from safetensors.numpy import load_file

from tasks.data.vectors.tensors import Tensor, write_tensors

WHOLE = np.arange(35, dtype=np.float16).reshape(5, 7)


def test_library_reads_the_pieces_as_one_tensor(tmp_path):
    byte = np.array([[1, 2, 3]], dtype=np.uint8)
    tensors = {
        "b": Tensor(shape=(1, 3), dtype=np.uint8, pieces=[byte]),
        "a": Tensor(shape=(5, 7), dtype=np.float16, pieces=iter([WHOLE[:2], WHOLE[2:2], WHOLE[2:]])),
        "none": Tensor(shape=(0, 4), dtype=np.float32, pieces=[]),
    }
    write_tensors(tmp_path / "t.safetensors", tensors, metadata={"recipe": "r"})
    read = load_file(tmp_path / "t.safetensors")
    assert np.array_equal(read["a"], WHOLE)
    assert np.array_equal(read["b"], byte)
    assert read["none"].shape == (0, 4)


def test_bytes_of_the_file_do_not_depend_on_the_pieces(tmp_path):
    for name, pieces in (("one", [WHOLE]), ("two", [WHOLE[:3], WHOLE[3:]]), ("strided", [WHOLE.T.copy().T])):
        tensor = Tensor(shape=(5, 7), dtype=np.float16, pieces=pieces)
        write_tensors(tmp_path / name, {"vectors": tensor}, metadata={})
    assert len({(tmp_path / name).read_bytes() for name in ("one", "two", "strided")}) == 1


def test_pieces_that_do_not_fill_the_shape_are_refused(tmp_path):
    with pytest.raises(AssertionError):
        write_tensors(tmp_path / "t", {"a": Tensor(shape=(5, 7), dtype=np.float16, pieces=[WHOLE[:4]])}, metadata={})
