"""The heads alone, on disk: a folder with `head.safetensors` (weight and bias of each target) and `head.json`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tasks.files import read_json, write_json

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]  # weight (num_classes, dim), bias (num_classes,)

WEIGHTS = "head.safetensors"
DESCRIPTION = "head.json"


def save_heads(
    folder: Path, layers: Mapping[str, Layer], *, classes: Mapping[str, Sequence[str]], facts: Mapping[str, Any]
) -> None:
    """Write a linear layer for each target, the names of its classes, and what else there is to know."""
    tensors = {
        f"{target}.{part}": each
        for target, layer in layers.items()
        for part, each in zip(("weight", "bias"), layer, strict=True)
    }
    save_file(
        {name: np.ascontiguousarray(each, dtype=np.float32) for name, each in sorted(tensors.items())}, folder / WEIGHTS
    )
    write_json(folder / DESCRIPTION, {"classes": classes, **facts})


def load_heads(folder: Path) -> tuple[dict[str, Layer], dict[str, list[str]]]:
    """The layers and the names of the classes, by target. Raises ValueError where something is missing or torn."""
    classes: dict[str, list[str]] = read_json(folder / DESCRIPTION)["classes"]
    try:
        tensors = load_file(folder / WEIGHTS)
        layers = {target: (tensors[f"{target}.weight"], tensors[f"{target}.bias"]) for target in classes}
    except (FileNotFoundError, KeyError, SafetensorError) as error:
        raise ValueError(
            f"{folder} is not a whole head ({error}): run train_head again, or `dvc checkout` it"
        ) from error
    return layers, classes
