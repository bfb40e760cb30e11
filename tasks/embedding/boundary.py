"""Cut a backbone in two at the freeze boundary: a frozen part, whose outputs never change, and a trained part."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, fx, nn

from tasks.embedding.fusion import trace
from tasks.embedding.shapes import ShapeProp
from tasks.models.backbone import Backbone

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """The tensors that pass from the frozen part to the trained one; together they are the activations.

    `steps` names steps of the traced backbone; `shapes` are the shapes of their outputs for one image.
    """

    steps: tuple[str, ...]
    shapes: tuple[Shape, ...]

    @property
    def width(self) -> int:
        """The number of activations per image."""
        return sum(map(prod, self.shapes))


def find_boundary(
    backbone: Backbone, trained: Sequence[nn.Module], *, graph: fx.GraphModule | None = None
) -> Boundary | None:  # fmt: skip
    """Return the boundary of the frozen part if `trained`, submodules of the backbone's network, are trained.

    All other submodules are frozen. A step is trained if it has weights of a trained submodule or follows a trained
    step. Return None if nothing is frozen, or if an output of the frozen part is not a tensor with one row per image.
    `graph` is that of the backbone, where it was traced already.
    """
    graph = trace(backbone, shares_weights=True) if graph is None else graph
    size = backbone.transform.crop_size
    with torch.no_grad():
        ShapeProp(graph).propagate(torch.zeros(2, 3, size, size))
    steps = _crossing(graph, _names(backbone, trained))
    shapes = [_shape_of_one(step) for step in steps]
    if not steps or any(shape is None for shape in shapes) or any(step.op == "placeholder" for step in steps):
        return None
    return Boundary(steps=tuple(step.name for step in steps), shapes=tuple(shape for shape in shapes if shape))


def frozen_part(backbone: Backbone, boundary: Boundary) -> fx.GraphModule:
    """Return a graph that maps normalised images (n, 3, size, size) to activations (n, width).

    It has its own copy of the weights. Maps are stored channels last in the activations, as convolutions want them.
    """
    graph = trace(backbone)
    by_name = {node.name: node for node in graph.graph.nodes}
    parts = []
    for name in boundary.steps:
        step = by_name[name]
        with graph.graph.inserting_after(step):  # a later step may write over it
            parts.append(graph.graph.call_function(flatten, (step,)))
    output = graph.graph.output_node()
    with graph.graph.inserting_before(output):
        output.args = (graph.graph.call_function(torch.cat, (parts, 1)),)
    return _tidy(graph)


def trained_part(backbone: Backbone, boundary: Boundary) -> fx.GraphModule:
    """Return a graph that maps activations (n, width) to features (n, dim).

    It shares the backbone's own weights: to train one is to train the other.
    """
    graph = trace(backbone, shares_weights=True)
    by_name = {node.name: node for node in graph.graph.nodes}
    first = next(iter(graph.graph.nodes))
    with graph.graph.inserting_before(first):
        activations = graph.graph.placeholder("activations")
        start = 0
        for name, shape in zip(boundary.steps, boundary.shapes, strict=True):
            end = start + prod(shape)
            restored = graph.graph.call_function(unflatten, (activations, start, end, shape))
            by_name[name].replace_all_uses_with(restored)
            start = end
    return _tidy(graph)


def flatten(tensor: Tensor) -> Tensor:
    """Return a tensor (n, ...) as (n, numbers per image), with maps channels last."""
    return (tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor).flatten(1)


def unflatten(activations: Tensor, start: int, end: int, shape: Shape) -> Tensor:
    """Return the columns from `start` to `end` in their `shape`: the inverse of `flatten`."""
    part = activations[:, start:end]
    if len(shape) == 3:
        channels, height, width = shape
        return part.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
    return part.reshape(-1, *shape)


def _names(backbone: Backbone, trained: Sequence[nn.Module]) -> tuple[str, ...]:
    """Return the names of all modules of the network that are inside a trained one."""
    parts = {id(part) for module in trained for part in module.modules()}
    return tuple(name for name, module in backbone.network.named_modules() if id(module) in parts)


def _crossing(graph: fx.GraphModule, trained: tuple[str, ...]) -> list[fx.Node]:
    """Return the frozen steps whose results trained steps use, in order.

    Two sorts of steps are computed again in the trained part: those whose result depends on no image, such as the
    angles of positions, and those without weights whose result is not a row per image, such as a size, or a map with
    its axes exchanged.
    """
    is_trained: set[fx.Node] = set()
    of_image: set[fx.Node] = set()
    for node in graph.graph.nodes:
        if node.op == "placeholder" or of_image.intersection(node.all_input_nodes):
            of_image.add(node)
        has_weights = (node.op == "call_module" and node.target in trained) or (
            node.op == "get_attr" and str(node.target).rpartition(".")[0] in trained
        )
        if has_weights or is_trained.intersection(node.all_input_nodes) or node.op == "output":
            is_trained.add(node)
    for node in reversed(graph.graph.nodes):
        is_light = node.op in ("call_function", "call_method") and _shape_of_one(node) is None
        if (node not in of_image or is_light) and is_trained.intersection(node.users):
            is_trained.add(node)
    return [
        node for node in graph.graph.nodes if node not in is_trained and is_trained.intersection(node.users)
    ]  # fmt: skip


def _shape_of_one(node: fx.Node) -> Shape | None:
    """Return the shape of a step's output for one image; None if the output is not a tensor with one row per image."""
    output = node.meta.get("tensor_meta")
    shape: Shape = tuple(getattr(output, "shape", ()))
    return shape[1:] if len(shape) > 1 and shape[0] == 2 else None


def _tidy(graph: fx.GraphModule) -> fx.GraphModule:
    """Return the graph without steps whose results nothing uses, and without their weights."""
    for node in reversed(list(graph.graph.nodes)):
        is_unused = not node.users and node.op not in ("output", "placeholder")
        if is_unused or (node.op == "placeholder" and not node.users):
            graph.graph.erase_node(node)
    graph.graph.lint()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph
