"""A graph of a network that torch.fx cannot follow, by torch.export, in the shape of a traced one.

Its steps are torch's own operations.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn

aten = torch.ops.aten
CHECKS = (aten._assert_tensor_metadata.default, aten.sym_constrain_range_for_size.default, aten._assert_scalar.default)


def export_graph(network: nn.Module, *, image_size: int) -> fx.GraphModule:
    """Return the graph of a network in evaluation mode, which maps images (n, 3, size, size) to one tensor.

    It shares the network's parameters.
    """
    images = torch.zeros(2, 3, image_size, image_size).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        program = torch.export.export(
            network, (images,), dynamic_shapes=({0: torch.export.Dim("n", min=1)},), strict=False
        )
    exported: Any = program.module()
    graph: fx.Graph = exported.graph
    graph.set_codegen(fx.graph.CodeGen())
    _drop_checks(graph)
    _count_images_nearby(graph)
    output = graph.output_node()
    output.args = (output.args[0][0],)  # type: ignore[index]
    graph.eliminate_dead_code()
    return _with_constants(fx.GraphModule(exported, graph))


def _drop_checks(graph: fx.Graph) -> None:
    """Remove checks of the input, and conversions to the type that a tensor has: the graph may run in another type."""
    for node in list(graph.nodes):
        if node.op == "call_module" or node.target in CHECKS:
            graph.erase_node(node)
        elif str(node.target).startswith("aten.to.") and _type(node) == _type(node.args[0]):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _count_images_nearby(graph: fx.Graph) -> None:
    """Let every step that needs the number of images count those of the step before it, not those of the input.

    So a part of the graph can run on its own.
    """
    [first] = [node for node in graph.nodes if node.op == "placeholder"]
    counts = [node for node in first.users if node.target is aten.sym_size.int]
    number = str(first.meta["val"].shape[0])
    latest = first
    for node in list(graph.nodes):
        for count in counts:
            if count in node.all_input_nodes and node not in counts:
                with graph.inserting_before(node):
                    near = graph.call_method("size", (latest, 0))
                node.replace_input_with(count, near)
        value = node.meta.get("val")
        if isinstance(value, Tensor) and value.ndim and str(value.shape[0]) == number:
            latest = node


def _with_constants(graph: fx.GraphModule) -> fx.GraphModule:
    """Return the graph with every step computed that depends on no input and no parameter, so that it is a buffer."""
    values: dict[fx.Node, Any] = {}
    for node in list(graph.graph.nodes):
        inputs = node.all_input_nodes
        if node.op == "call_function" and all(one in values or _is_buffer(graph, one) for one in inputs):
            arguments = fx.node.map_arg((node.args, node.kwargs), lambda one: _value(graph, one, values))
            values[node] = node.target(*arguments[0], **arguments[1])
    for node, value in values.items():
        if isinstance(value, Tensor) and any(user not in values for user in node.users):
            name = f"constant_{node.name}"
            graph.register_buffer(name, value.detach(), persistent=False)
            with graph.graph.inserting_before(node):
                constant = graph.graph.get_attr(name)
            constant.meta = dict(node.meta)
            node.replace_all_uses_with(constant)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def _is_buffer(graph: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "get_attr" and not isinstance(_attribute(graph, node), nn.Parameter)


def _value(graph: fx.GraphModule, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    return values[node] if node in values else _attribute(graph, node)


def _attribute(graph: fx.GraphModule, node: fx.Node) -> Any:
    owner, _, name = str(node.target).rpartition(".")
    return getattr(graph.get_submodule(owner), name)


def _type(node: Any) -> Any:
    return getattr(node.meta.get("val"), "dtype", None) if isinstance(node, fx.Node) else None
