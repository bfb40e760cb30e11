"""The embeddings of a batch on disk: one memory-mappable safetensors file, `vectors` (n, dim) float16, the recipe in its header."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file


def write_embeddings(path: Path, vectors: NDArray[np.float32], *, recipe: str) -> None:
    """`vectors` (n, dim), in the order of the batch's manifest; `recipe` is the fingerprint of what made them."""
    save_file({"vectors": np.ascontiguousarray(vectors, dtype=np.float16)}, path, metadata={"recipe": recipe})


def read_embeddings(folder: Path, batches: Sequence[str]) -> NDArray[np.float32]:
    """The vectors of all batches, in their order: (n, dim) float32.

    Raises ValueError where a batch's file is missing or torn, or where two batches were embedded by different recipes.
    """
    parts: list[NDArray[np.float16]] = []
    recipes: dict[str, str] = {}
    for batch in batches:
        path = folder / f"{batch}.safetensors"
        try:
            with safe_open(path, framework="np") as file:
                recipes[(file.metadata() or {})["recipe"]] = batch
                parts.append(file.get_tensor("vectors"))
        except FileNotFoundError:
            raise ValueError(
                f"{path} is missing, though batch {batch} is listed: run `dvc pull scan validate embed`, then again"
            ) from None
        except (SafetensorError, KeyError) as error:
            raise ValueError(
                f"{path} is not a whole file of embeddings ({error}): remove it and run embed again"
            ) from error
    if len(recipes) > 1:
        raise ValueError(f"batches {', '.join(recipes.values())} were embedded by different backbones: run embed again")
    return np.concatenate(parts).astype(np.float32)
