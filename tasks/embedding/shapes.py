"""Note the shape of each step's result in a graph, for an example of the inputs."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx


@dataclass(frozen=True, kw_only=True)
class TensorMeta:
    """The facts about a tensor besides its values."""

    shape: torch.Size
    dtype: torch.dtype


class ShapeProp(fx.Interpreter):
    """Runs a graph, and notes a TensorMeta of each step that gives a tensor as its `meta["tensor_meta"]`.

    torch has a class of this name that also knows symbolic sizes, and imports a library to compute with these.
    """

    def propagate(self, *inputs: Tensor) -> Any:
        """Run the graph on these inputs and return its output."""
        return self.run(*inputs)

    def run_node(self, node: fx.Node) -> Any:
        result = super().run_node(node)
        if isinstance(result, Tensor):
            node.meta["tensor_meta"] = TensorMeta(shape=result.shape, dtype=result.dtype)
        return result
