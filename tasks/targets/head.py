"""The heads alone, on disk: a folder with `head.safetensors` (the linear layers of each target) and `head.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tasks.machine.files import read_json, write_json
from tasks.targets.kinds import facts_of, targets_of
from tasks.targets.target import Facts, Target

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]  # weight (num_outputs, num_inputs), bias (num_outputs,)
SparseRow = tuple[NDArray[np.int64], NDArray[np.float32]]  # the terms of a text: places in a vocabulary, and weights
NO_WORDS: SparseRow = (np.empty(0, np.int64), np.empty(0, np.float32))

WEIGHTS = "head.safetensors"
DESCRIPTION = "head.json"


@dataclass(frozen=True, kw_only=True)
class Factors:
    """The weights of a sample's vector and its words: the logits are of_vector * its logits + of_words * theirs."""

    of_vector: float = 1.0
    of_words: float = 0.0


@dataclass(frozen=True, kw_only=True)
class WordLayer:
    """The part of a head that reads the words of a text: a linear layer over the terms of a vocabulary.

    Alone it is calibrated: the probabilities are softmax(logits).
    """

    layer: Layer  # weight (num_classes, num_terms), bias (num_classes,)
    factors: Factors

    def logits(self, rows: Sequence[SparseRow]) -> NDArray[np.float32]:
        """Return the logits (n, num_classes) of n texts. Each is computed by itself, so that no bit depends on n."""
        weight, bias = self.layer
        logits = [np.einsum("km,m->k", weight[:, places], weights) + bias for places, weights in rows]
        return np.stack(logits) if logits else np.empty((0, len(bias)), np.float32)

    def join(self, logits: NDArray[np.float32], rows: Sequence[SparseRow]) -> NDArray[np.float32]:
        """Return the logits (n, num_classes) of vectors, joined with those of the texts' words."""
        assert len(rows) == len(logits), "a head that reads words needs the words of every sample"
        of_vector, of_words = np.float32(self.factors.of_vector), np.float32(self.factors.of_words)
        return of_vector * logits + of_words * self.logits(rows)


@dataclass(frozen=True, kw_only=True)
class Head:
    """The linear layers of a head, with a ReLU between each and the next. The target turns logits into answers.

    Where the head reads words too, the logits are joined before the temperature.
    """

    layers: tuple[Layer, ...]
    temperature: float = 1.0
    words: WordLayer | None = None

    @property
    def dim(self) -> int:
        """Return the length of the vectors that the head takes."""
        return int(self.layers[0][0].shape[1])

    @property
    def hidden_features(self) -> int | None:
        """Return the width of the hidden layer; None without one."""
        return int(self.layers[0][0].shape[0]) if len(self.layers) > 1 else None

    def logits(self, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
        """(n, dim) -> (n, num_outputs), of the vectors alone, before the temperature."""
        passed = vectors.astype(np.float32)
        for number, (weight, bias) in enumerate(self.layers):
            passed = (np.maximum(passed, 0) if number else passed) @ weight.T + bias
        return passed


def save_heads(
    folder: Path, heads: Mapping[str, Head], *, targets: Mapping[str, Target | Facts], facts: Mapping[str, Any]
) -> None:
    """Write the head of each target, the target itself, and further facts."""
    words = {target: head.words for target, head in heads.items() if head.words}
    layers = {f"{target}.{number}": layer for target, head in heads.items() for number, layer in enumerate(head.layers)}
    layers |= {f"{target}.words": part.layer for target, part in words.items()}
    tensors = {
        f"{name}.{part}": each
        for name, layer in layers.items()
        for part, each in zip(("weight", "bias"), layer, strict=True)
    }
    save_file(
        {name: np.ascontiguousarray(each, dtype=np.float32) for name, each in sorted(tensors.items())}, folder / WEIGHTS
    )
    known = {
        "classes": facts_of(targets_of(targets)),
        "num_layers": {target: len(head.layers) for target, head in heads.items()},
        "temperature": {target: head.temperature for target, head in heads.items()},
    }
    if words:
        known["factors"] = {target: asdict(part.factors) for target, part in words.items()}
    write_json(folder / DESCRIPTION, {**known, **facts})


def load_heads(folder: Path) -> tuple[dict[str, Head], dict[str, Target]]:
    """The heads and the targets, by name. Raises ValueError where something is missing or torn."""
    described = read_json(folder / DESCRIPTION)
    try:
        targets = targets_of(described["classes"])
        tensors = load_file(folder / WEIGHTS)
        factors = described.get("factors", {})
        heads = {
            target: Head(
                layers=tuple(
                    (tensors[f"{target}.{number}.weight"], tensors[f"{target}.{number}.bias"])
                    for number in range(described["num_layers"][target])
                ),
                temperature=float(described["temperature"][target]),
                words=WordLayer(
                    layer=(tensors[f"{target}.words.weight"], tensors[f"{target}.words.bias"]),
                    factors=Factors(**factors[target]),
                )
                if target in factors
                else None,
            )
            for target in targets
        }
    except (FileNotFoundError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"{folder} is not a whole head ({error}): run train_head again, or `dvc checkout` it"
        ) from error
    return heads, targets
