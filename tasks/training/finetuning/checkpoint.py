"""The state of a training, on disk after every epoch: a run that was killed resumes from it, to the same bytes."""

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tasks.machine.files import remove, whole_file

STALE_DAYS = 14


class Checkpoint:
    """A file in `folder`, named after the fingerprint of `recipe`, which is everything that the training depends on."""

    def __init__(self, folder: Path, *, recipe: Mapping[str, Any]) -> None:
        self.recipe = json.dumps(recipe, sort_keys=True)
        self.path = folder / f"{hashlib.sha256(self.recipe.encode()).hexdigest()}.safetensors"

    def save(self, tensors: Mapping[str, Tensor], *, facts: Mapping[str, Any]) -> None:
        """Replace the state before. `facts` are written as JSON."""
        metadata = {"recipe": self.recipe, "facts": json.dumps(facts)}
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        with whole_file(self.path) as path:
            save_file(contiguous, path, metadata=metadata)

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return tensors and facts; None if there is no file. Raises ValueError if it is torn or of another recipe."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            recipe, facts = metadata["recipe"], json.loads(metadata["facts"])
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"{self.path} is not a whole checkpoint ({error}): remove it to train anew") from error
        if recipe != self.recipe:
            difference = _difference(recipe, self.recipe)
            raise ValueError(f"{self.path} is a checkpoint of another recipe ({difference}): remove it to train anew")
        return tensors, facts

    def remove(self) -> None:
        """Remove this file, those that no run resumed for STALE_DAYS, and unfinished files of killed runs."""
        self.path.unlink(missing_ok=True)
        stale = time.time() - STALE_DAYS * 24 * 3600
        for pattern in ("*.safetensors", ".*.safetensors.part"):
            for path in self.path.parent.glob(pattern):
                with suppress(FileNotFoundError):  # another run, which shares the folder, was faster
                    if path.stat().st_mtime < stale:
                        remove(path)


def _difference(found: str, expected: str) -> str:
    """Describe the first difference of two recipes, for an error."""
    one, other = json.loads(found), json.loads(expected)
    keys = sorted(key for key in {*one, *other} if one.get(key) != other.get(key))
    return f"{keys[0]} is {json.dumps(one.get(keys[0]))[:80]}, expected {json.dumps(other.get(keys[0]))[:80]}"
