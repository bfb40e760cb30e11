"""The heads alone, on disk: a folder with `head.safetensors` (the linear layers of each target) and `head.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tasks.machine.files import read_json, write_json

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]  # weight (num_outputs, num_inputs), bias (num_outputs,)

WEIGHTS = "head.safetensors"
DESCRIPTION = "head.json"


@dataclass(frozen=True, kw_only=True)
class Head:
    """Linear layers with a ReLU between each and the next; the probabilities are softmax(logits / temperature)."""

    layers: tuple[Layer, ...]
    temperature: float = 1.0

    @property
    def dim(self) -> int:
        """Return the length of the vectors that the head takes."""
        return int(self.layers[0][0].shape[1])

    @property
    def hidden_features(self) -> int | None:
        """Return the width of the hidden layer; None without one."""
        return int(self.layers[0][0].shape[0]) if len(self.layers) > 1 else None

    def logits(self, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
        """(n, dim) -> (n, num_classes), before the temperature."""
        passed = vectors.astype(np.float32)
        for number, (weight, bias) in enumerate(self.layers):
            passed = (np.maximum(passed, 0) if number else passed) @ weight.T + bias
        return passed


def save_heads(
    folder: Path, heads: Mapping[str, Head], *, classes: Mapping[str, Sequence[str]], facts: Mapping[str, Any]
) -> None:
    """Write the head of each target, the names of its classes, and what else there is to know."""
    tensors = {
        f"{target}.{number}.{part}": each
        for target, head in heads.items()
        for number, layer in enumerate(head.layers)
        for part, each in zip(("weight", "bias"), layer, strict=True)
    }
    save_file(
        {name: np.ascontiguousarray(each, dtype=np.float32) for name, each in sorted(tensors.items())}, folder / WEIGHTS
    )
    known = {
        "classes": classes,
        "num_layers": {target: len(head.layers) for target, head in heads.items()},
        "temperature": {target: head.temperature for target, head in heads.items()},
    }
    write_json(folder / DESCRIPTION, {**known, **facts})


def load_heads(folder: Path) -> tuple[dict[str, Head], dict[str, list[str]]]:
    """The heads and the names of the classes, by target. Raises ValueError where something is missing or torn."""
    described = read_json(folder / DESCRIPTION)
    try:
        classes: dict[str, list[str]] = described["classes"]
        tensors = load_file(folder / WEIGHTS)
        heads = {
            target: Head(
                layers=tuple(
                    (tensors[f"{target}.{number}.weight"], tensors[f"{target}.{number}.bias"])
                    for number in range(described["num_layers"][target])
                ),
                temperature=float(described["temperature"][target]),
            )
            for target in classes
        }
    except (FileNotFoundError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(
            f"{folder} is not a whole head ({error}): run train_head again, or `dvc checkout` it"
        ) from error
    return heads, classes
