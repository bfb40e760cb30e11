"""The embeddings of a batch on disk: one memory-mappable safetensors file, `vectors` (n, dim) float16, the recipe in its header."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


def write_embeddings(path: Path, vectors: Tensor, *, recipe: str) -> None:
    """`vectors` (n, dim), in the order of the batch's manifest; `recipe` is the fingerprint of what made them."""
    save_file({"vectors": vectors.half().contiguous()}, path, metadata={"recipe": recipe})


def read_embeddings(folder: Path, batches: Sequence[str]) -> Tensor:
    """The vectors of all batches, in their order: (n, dim) float32.

    Raises ValueError where a batch's file is missing or torn, or where two batches were embedded by different recipes.
    """
    parts: list[Tensor] = []
    recipes: dict[str, str] = {}
    for batch in batches:
        path = folder / f"{batch}.safetensors"
        try:
            with safe_open(path, framework="pt") as file:
                recipes[file.metadata()["recipe"]] = batch
                parts.append(file.get_tensor("vectors"))
        except FileNotFoundError:
            raise ValueError(
                f"{path} is missing, though batch {batch} is listed: run `dvc pull scan validate embed`, then again"
            ) from None
        except SafetensorError as error:
            raise ValueError(
                f"{path} is not a whole safetensors file ({error}): remove it and run embed again"
            ) from error
    if len(recipes) > 1:
        raise ValueError(f"batches {', '.join(recipes.values())} were embedded by different backbones: run embed again")
    return torch.cat(parts).float()
