"""The embeddings of a batch on disk: one memory-mappable safetensors file, `vectors` (n, dim) float16, the recipe in its header."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from tasks.data.tensors import Tensor, write_tensors


def write_embeddings(
    path: Path, vectors: Iterable[NDArray[np.float16]], *, shape: tuple[int, int], recipe: str
) -> None:
    """`vectors` are pieces of (n, dim) = `shape`, in the order of the batch's manifest; `recipe` is the fingerprint of what
    made them."""
    tensor = Tensor(shape=shape, dtype=np.float16, pieces=vectors)
    write_tensors(path, {"vectors": tensor}, metadata={"recipe": recipe})


def read_embeddings(folder: Path, batches: Sequence[str], *, num_samples: int) -> NDArray[np.float32]:
    """The vectors of all batches, in their order: (num_samples, dim) float32.

    Raises ValueError where a batch's file is missing or torn, where two batches were embedded by different recipes, or
    where there are not as many vectors as samples.
    """
    parts: list[NDArray[np.float16]] = []
    recipes: dict[str, str] = {}
    for batch in batches:
        [vectors], recipe = read_tensors(folder, batch, what="embeddings", names=["vectors"], fact="recipe")
        recipes[recipe] = batch
        parts.append(vectors)
    if len(recipes) > 1:
        raise ValueError(f"batches {', '.join(recipes.values())} were embedded by different backbones: run embed again")
    joined = np.concatenate(parts, dtype=np.float32)
    if len(joined) != num_samples:
        raise ValueError(f"{len(joined)} embeddings for {num_samples} samples: run embed again")
    return joined


def read_tensors(
    folder: Path, batch: str, *, what: str, names: Sequence[str], fact: str
) -> tuple[list[NDArray[Any]], str]:
    """Tensors of a batch's file, by name, and a fact of its header. Raises ValueError where the file is missing or
    torn; `what` says then what it should hold."""
    path = folder / f"{batch}.safetensors"
    try:
        with safe_open(path, framework="np") as file:
            return [file.get_tensor(name) for name in names], (file.metadata() or {})[fact]
    except FileNotFoundError:
        raise ValueError(
            f"{path} is missing, though batch {batch} is listed: run `dvc pull scan validate embed`, then again"
        ) from None
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path} is not a whole file of {what} ({error}): remove it and run embed again") from error


def pair_cosines(left: NDArray[np.floating], right: NDArray[np.floating]) -> NDArray[np.float64]:
    """Pair by pair: vectors (n, dim) of both -> (n,). Of a vector of zeros it is 0."""
    one, other = left.astype(np.float64), right.astype(np.float64)
    norms = np.sqrt((one * one).sum(axis=1) * (other * other).sum(axis=1))
    cosines: NDArray[np.float64] = (one * other).sum(axis=1) / np.where(norms > 0, norms, 1)
    return cosines
