"""A safetensors file from a stranger: the open file and the tensors that a model expects in; the tensors out, or what is wrong with them.

Nothing is allocated before names, shapes, types and sizes are those that are expected, and nothing in the file is ever run.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from math import prod
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from tasks.models.weights import check_fit

MOST_HEADER_BYTES = 100_000_000  # as safetensors has it
# what begins as other formats do: pickles of protocols 2 to 5, torch.save's archives, gzip, HDF5
OTHERS = {
    b"\x80": "a pickle",
    b"PK": "a zip archive, as torch.save makes of pickles",
    b"\x1f\x8b": "gzip",
    b"\x89HDF": "HDF5",
}
TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}
DVC_CACHE = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")


@dataclass(frozen=True, kw_only=True)
class Header:
    """Of the tensors of a safetensors file, by name: their shapes, and types as safetensors calls them."""

    shapes: dict[str, tuple[int, ...]]
    types: dict[str, str]

    @property
    def num_numbers(self) -> int:
        return sum(map(prod, self.shapes.values()))


def check_place(path: Path) -> None:
    """Raises ValueError where the file is none, or a link that leads out of its folder; DVC may link to its cache."""
    place = path.resolve()
    if path.is_symlink() and place.parent != path.parent.resolve() and not DVC_CACHE.search(place.as_posix()):
        raise ValueError(f"{path.name} is a link that leads out of the bundle")
    if not path.exists():
        raise ValueError(f"{path.name} is missing: run the stage that makes it, or `dvc pull`")
    if not path.is_file():
        raise ValueError(f"{path.name} is no regular file")


def check_content(file: BufferedReader, *, sha256: str) -> None:
    """Raises ValueError where the file is no safetensors file, is cut off, or has another SHA-256 (hex) than that."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(9)
    file.seek(0)
    for magic, kind in OTHERS.items():
        if start.startswith(magic) and not start.endswith(b"{"):
            raise ValueError(f"{file.name} begins as {kind} does, expected safetensors; it was not read further")
    header = int.from_bytes(start[:8], "little")
    if len(start) < 9 or not start.endswith(b"{") or header > min(size - 8, MOST_HEADER_BYTES):
        raise ValueError(f"{file.name} is cut off, or no safetensors file")
    if (found := hashlib.file_digest(file, "sha256").hexdigest()) != sha256:
        raise ValueError(f"{file.name} has SHA-256 {found[:12]}, expected {sha256[:12]}: it is torn, or was changed")


def read_header(file: BufferedReader) -> Header:
    """Raises SafetensorError where the tensors are not all that the file has, and all of it."""
    with safe_open(_path_of(file), framework="pt") as tensors:
        slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 (not a mapping)
        return Header(
            shapes={name: tuple(each.get_shape()) for name, each in slices.items()},
            types={name: str(each.get_dtype()) for name, each in slices.items()},
        )


def check_header(header: Header, expected: Mapping[str, Tensor], *, advice: str) -> None:
    """Raises ValueError where the tensors are not those of the `expected` names, shapes and types (of which the numbers do
    not matter)."""
    wanted = {name: tuple(each.shape) for name, each in expected.items()}
    check_fit(header.shapes, wanted, name="its weights", advice=advice)
    for name, found in header.types.items():
        if TYPES.get(found) != expected[name].dtype:
            raise ValueError(f"its tensor {name} is of type {found}, expected {expected[name].dtype}")


def read_tensors(file: BufferedReader) -> dict[str, Tensor]:
    """Raises ValueError where a number is not finite, or a variance is negative."""
    tensors: dict[str, Tensor] = load_file(_path_of(file))
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"its tensor {name} has numbers that are not finite")
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise ValueError(f"its tensor {name} has a variance below 0")
    return tensors


def _path_of(file: BufferedReader) -> str:
    """Of this very file, whatever stands by its name by now: safetensors opens by path alone."""
    return f"/dev/fd/{file.fileno()}"
