"""A safetensors file from a stranger: check it against the tensors that a model expects, then read it.

Nothing is allocated before names, shapes, types and sizes are the expected ones, and nothing in the file is ever run.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from math import prod
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from tasks.machine.dvc_files import is_cached
from tasks.models.tensor_checks import check_fit

MOST_HEADER_BYTES = 100_000_000  # the limit of safetensors itself
# the first bytes of other formats: pickles of protocols 2 to 5, torch.save's archives, gzip, HDF5
OTHERS = {
    b"\x80": "a pickle",
    b"PK": "a zip archive of pickles, such as torch.save writes",
    b"\x1f\x8b": "gzip",
    b"\x89HDF": "HDF5",
}
TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}


@dataclass(frozen=True, kw_only=True)
class Header:
    """The shapes and types of a safetensors file's tensors, by name; types in the words of safetensors."""

    shapes: dict[str, tuple[int, ...]]
    types: dict[str, str]

    @property
    def num_numbers(self) -> int:
        return sum(map(prod, self.shapes.values()))


def check_place(path: Path) -> None:
    """Raise ValueError if the path is missing, is not a regular file, or is a link that leads out of its folder.

    A link into the cache of the DVC project that the folder lies in is allowed.
    """
    place = path.resolve()
    if path.is_symlink() and place.parent != path.parent.resolve() and not is_cached(place, root=path.parent):
        raise ValueError(f"{path.name} is a link that leads out of the bundle")
    if not path.exists():
        raise ValueError(f"{path.name} is missing: run the stage that makes it, or `dvc pull`")
    if not path.is_file():
        raise ValueError(f"{path.name} is not a regular file")


def check_content(file: BufferedReader, *, sha256: str) -> None:
    """Raise ValueError if the file is not a safetensors file, is cut off, or has another SHA-256 (hex)."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(9)
    file.seek(0)
    for magic, kind in OTHERS.items():
        if start.startswith(magic) and not start.endswith(b"{"):
            raise ValueError(f"{file.name} begins like {kind}, expected safetensors; it was not read further")
    header = int.from_bytes(start[:8], "little")
    if len(start) < 9 or not start.endswith(b"{") or header > min(size - 8, MOST_HEADER_BYTES):
        raise ValueError(f"{file.name} is cut off, or is not a safetensors file")
    if (actual := hashlib.file_digest(file, "sha256").hexdigest()) != sha256:
        raise ValueError(f"{file.name} has SHA-256 {actual[:12]}, expected {sha256[:12]}: it is torn, or was changed")


def read_header(file: BufferedReader) -> Header:
    """Return the names, shapes and types of the tensors.

    Raises SafetensorError if the tensors do not match the bytes of the file, for example if bytes are left over.
    """
    with safe_open(_path_of(file), framework="pt") as tensors:
        slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 (not a mapping)
        return Header(
            shapes={name: tuple(tensor.get_shape()) for name, tensor in slices.items()},
            types={name: str(tensor.get_dtype()) for name, tensor in slices.items()},
        )


def check_header(header: Header, expected: Mapping[str, Tensor], *, advice: str) -> None:
    """Raise ValueError unless the tensors have the names, shapes and types of `expected`. Its values do not matter."""
    wanted = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    check_fit(header.shapes, wanted, name="its weights", advice=advice)
    for name, dtype in header.types.items():
        if TYPES.get(dtype) != expected[name].dtype:
            raise ValueError(f"its tensor {name} is of type {dtype}, expected {expected[name].dtype}")


def read_tensors(file: BufferedReader) -> dict[str, Tensor]:
    """Return the tensors by name."""
    tensors: dict[str, Tensor] = load_file(_path_of(file))
    return tensors


def _path_of(file: BufferedReader) -> str:
    """Return a path to this very file, even if another one has its name by now; safetensors opens only paths."""
    return f"/dev/fd/{file.fileno()}"
