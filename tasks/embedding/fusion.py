"""Turn a backbone into a graph that computes the same in fewer, larger steps.

Normalisation is folded into the convolutions. oneDNN, and cuDNN on a GPU, do activations and residual sums while the
result of a convolution or a linear layer is still in the processor's cache. On a processor, convolutions of 3 x 3 in
fp32 take fewer multiplications (`tasks.embedding.winograd`).

torch.compile with freezing is fast on these networks for the same reason. Here the steps need no C++ compiler and no
compile time, and which steps are fused depends only on the network.
"""

import copy
import inspect
import math
import operator
import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dis import opname
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision import ops

from tasks.embedding.exported import export_graph
from tasks.embedding.fused_steps import (
    NO_ACTIVATION,
    Activation,
    CudnnConvolution,
    FusedAttention,
    FusedConvolution,
    FusedLinear,
)
from tasks.embedding.shapes import ShapeProp
from tasks.embedding.winograd import WinogradConvolution, suits
from tasks.models.backbone import Backbone, mean_of_two, mean_over_positions, mirrored, resized, signed_power

IDENTITIES = (nn.Identity, nn.Dropout, ops.StochasticDepth)  # in evaluation mode
ADDITIONS = (operator.add, operator.iadd, torch.add, torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor)
RELU = Activation("relu", [])
ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.ReLU: RELU,
    nn.ReLU6: Activation("hardtanh", [0.0, 6.0]),
    nn.SiLU: Activation("swish", []),
    nn.Hardswish: Activation("hardswish", []),
}
RELUS = (F.relu, torch.relu, torch.ops.aten.relu.default)
GELUS = (F.gelu, torch.ops.aten.gelu.default)
LINEARS = (F.linear, torch.ops.aten.linear.default)
CONVOLUTIONS = (torch.ops.aten.conv2d.default,)


def trace(backbone: Backbone, *, shares_weights: bool = False) -> fx.GraphModule:
    """Return a graph that maps normalised images (n, 3, size, size) to features (n, dim) as the backbone does.

    The graph has its own copy of the weights unless it shares them. Unlike the backbone, it may run in many threads at
    once.
    """
    network = _copied(backbone.network, shares_weights=shares_weights)
    root, graph = _graph_of(network, backbone)
    output = graph.output_node()
    # the last node of each part: a part that runs more than once has several keys, but one name in the values
    stacks = ((node, node.meta.get("nn_module_stack", {}).values()) for node in graph.nodes)
    maps = {name: node for node, stack in stacks for name, _ in stack}
    features = []
    for name in backbone.sources:  # averaged right where the map is made: a later step may write over it
        with graph.inserting_after(maps[name]):
            features.append(graph.call_function(mean_over_positions, (maps[name],), backbone.order_of(name)))
    with graph.inserting_before(output):
        joined = graph.call_function(torch.cat, (features, 1)) if features else output.args[0]
        output.args = (graph.call_method("flatten", (joined, 1)),)
    if backbone.flip or backbone.resolutions:
        graph = _of_all_views(graph, backbone)
    if backbone.power != 1:
        output = graph.output_node()
        with graph.inserting_before(output):
            output.args = (graph.call_function(signed_power, (output.args[0], backbone.power)),)
    graph.owning_module = root  # type: ignore[assignment]  # whose parts it asks whether they do more than compute
    graph.eliminate_dead_code()
    if isinstance(root, fx.GraphModule) and root.graph is graph:
        root.recompile()
        return root
    return fx.GraphModule(root, graph)


def _copied(network: nn.Module, *, shares_weights: bool) -> nn.Module:
    """Return a copy of a network, without hooks on its outputs and in evaluation mode."""
    shared = [*network.parameters(), *network.buffers()] if shares_weights else []
    memo: dict[int, Any] = {id(tensor): tensor for tensor in shared}
    for part in network.modules():  # each has many dictionaries of no hooks, to copy which would take most of the time
        own = (value for value in vars(part).values() if type(value) is OrderedDict)
        memo |= {id(hooks): OrderedDict() for hooks in own if not hooks or hooks is part._forward_hooks}
    return copy.deepcopy(network, memo).eval()


def _graph_of(network: nn.Module, backbone: Backbone) -> tuple[nn.Module, fx.Graph]:
    """Return a graph of the network, and the module that has its parts.

    torch.fx traces torchvision's and timm's networks, torch.export those of transformers.
    """
    if backbone.library == "transformers":
        exported = export_graph(network, image_size=backbone.transform.crop_size)
        return exported, exported.graph
    if backbone.library == "torchvision":
        return network, _Tracer(autowrap_modules=(math, ops)).trace(network)
    from tasks.models.timm_networks import untraced

    leaves, functions = untraced()
    tracer = _Tracer(autowrap_modules=(math, ops), autowrap_functions=functions)
    tracer.leaves = leaves
    others = list(inspect.signature(network.forward).parameters.values())[1:]
    defaults = {parameter.name: parameter.default for parameter in others}
    graph = tracer.trace(network, concrete_args=defaults or None)
    for node in list(graph.nodes):
        if node.target is torch._assert:  # of sizes that never change here; it would keep steps from being fused
            graph.erase_node(node)
    return network, graph


def _of_all_views(graph: fx.Graph, backbone: Backbone) -> fx.Graph:
    """Return a graph that runs every step of another on each resolution and mirror image, and joins the features."""
    whole = fx.Graph()
    images = whole.placeholder("images")
    [own_images] = [node for node in graph.nodes if node.op == "placeholder"]

    def features_of(seen: fx.Node) -> Any:
        return whole.graph_copy(graph, {own_images: seen})

    parts = []
    for size in (*backbone.resolutions, None):
        seen = whole.call_function(resized, (images, size)) if size else images
        features = features_of(seen)
        if backbone.flip:
            others = features_of(whole.call_function(mirrored, (seen,)))
            features = whole.call_function(mean_of_two, (features, others))
        parts.append(features)
    whole.output(whole.call_function(torch.cat, (parts, 1)))
    return whole


def fold(graph: fx.GraphModule) -> None:
    """Remove steps that do nothing in evaluation mode, and fold every normalisation into the convolution before it."""
    folded: set[tuple[str, str]] = set()  # layers may run several times, see `_of_all_views`
    for node in list(graph.graph.nodes):
        part = _part(graph, node)
        if isinstance(part, IDENTITIES) or node.target is torch.ops.aten.dropout.default:  # as in an exported graph
            _replace(graph, [node], node.args[0])
        elif isinstance(part, nn.BatchNorm2d):
            convolution = _part(graph, node.args[0])
            # of the kinds of convolution, these two use their weights as they are
            has_own_weights = type(convolution).__name__ in ("Conv2d", "Conv2dSame")
            if isinstance(convolution, nn.Conv2d) and has_own_weights and len(node.args[0].users) == 1:
                if (pair := (node.args[0].target, node.target)) not in folded:
                    assert part.running_mean is not None
                    assert part.running_var is not None
                    convolution.weight, convolution.bias = fuse_conv_bn_weights(
                        convolution.weight, convolution.bias, part.running_mean, part.running_var, part.eps,
                        part.weight, part.bias,
                    )  # fmt: skip
                    folded.add(pair)
                activation = getattr(part, "act", None)  # timm's normalisation ends in one
                if isinstance(activation, nn.Module) and not isinstance(activation, IDENTITIES):
                    node.target = f"{node.target}.act"
                else:
                    _replace(graph, [node], node.args[0])
    graph.recompile()


def fuse(graph: fx.GraphModule, images: Tensor) -> None:
    """Fuse every convolution, and on a processor every linear layer, with the sum and the activation that follow it.

    A result that another step needs is not fused away. On a processor attention is fused, too.

    `images` is an example of the inputs to come: it has their number, size, layout, precision and device.
    """
    ShapeProp(graph).propagate(images)
    for node in list(graph.graph.nodes):
        layer = _layer(graph, node)
        if layer is None:
            continue
        done, other = [node], None
        follower = _only_user(node)
        if follower is not None and follower.target in ADDITIONS and _shapes(follower) == {_shape(node)}:
            other = next(summand for summand in follower.args if summand is not node)
            done.append(follower)
            follower = _only_user(follower)
        activation = _activation(graph, follower)
        if isinstance(layer, nn.Linear) and other is not None:
            activation = NO_ACTIVATION  # oneDNN's step of a linear layer has either
        if activation.name:
            done.append(follower)
        inputs: Any = (node.args[0],) if other is None else (node.args[0], other)
        fused = _fused(layer, [_shape(one) for one in inputs], activation=activation)
        if fused is None:
            continue
        name = f"fused_{node.name}"
        graph.add_submodule(name, fused)
        with graph.graph.inserting_before(done[-1]):
            new = graph.graph.call_module(name, inputs)
        new.meta = done[-1].meta
        _replace(graph, done[::-1], new)
    graph.recompile()
    graph.delete_all_unused_submodules()


def _layer(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """Return the layer that a step computes, if it is one of those that can be fused."""
    part = _part(graph, node)
    if type(part) is nn.MultiheadAttention:
        return part if _is_plain_attention(part, node) else None
    if type(part) is nn.Linear or (type(part) is nn.Conv2d and part.padding_mode == "zeros"):
        return part
    return _functional_layer(graph, node)


def _functional_layer(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """Return the layer that a function of torch computes with parameters of the network, as in an exported graph."""
    if node.kwargs or node.target not in (*LINEARS, *CONVOLUTIONS):
        return None
    arguments: Any = (*node.args, *(None, [1, 1], [0, 0], [1, 1], 1)[len(node.args) - 2 :])
    weight, bias = (_parameter(graph, argument) for argument in arguments[1:3])
    if weight is None or (arguments[2] is not None and bias is None):
        return None
    has_bias = bias is not None
    layer: Any
    if node.target in LINEARS:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=has_bias, device="meta")
    else:
        stride, padding, dilation, groups = arguments[3:]
        kernel: Any = tuple(weight.shape[2:])
        layer = nn.Conv2d(
            weight.shape[1] * groups, weight.shape[0], kernel, tuple(stride), tuple(padding),
            tuple(dilation), groups, has_bias, device="meta",
        )  # fmt: skip
    layer.weight, layer.bias = weight, bias
    built: nn.Module = layer
    return built


def _is_plain_attention(attention: nn.MultiheadAttention, node: fx.Node) -> bool:
    """Return whether a step is self-attention without masks, whose weights are not used."""
    is_self = len(node.args) == 3 and len(set(node.args)) == 1
    is_whole = attention.in_proj_weight is not None and attention.bias_k is None and not attention.add_zero_attn
    return is_self and is_whole and attention.batch_first and node.kwargs == {"need_weights": False}


def _fused(layer: nn.Module, shapes: Sequence[tuple[int, ...]], *, activation: Activation) -> nn.Module | None:
    """Return the fused step for inputs of these `shapes`, those of a layer and a summand; None where there is none."""
    weight = next(layer.parameters())
    num_rows = prod(shapes[0][:-1])
    if isinstance(layer, nn.Conv2d):
        if weight.is_cuda:
            return _fused_by_cudnn(layer, shapes, activation=activation)
        if suits(layer, shapes[0], activation):
            return WinogradConvolution(layer, shape=shapes[0], activation=activation)
        return FusedConvolution(layer, shape=list(shapes[0]), activation=activation)
    if weight.is_cuda:
        return None
    if isinstance(layer, nn.MultiheadAttention):
        return FusedAttention(layer, num_rows=num_rows)
    assert isinstance(layer, nn.Linear)
    return FusedLinear(layer.weight, layer.bias, num_rows=num_rows, activation=activation)


def _fused_by_cudnn(
    convolution: nn.Conv2d, shapes: Sequence[tuple[int, ...]], *, activation: Activation
) -> nn.Module | None:
    weight = convolution.weight
    if activation != RELU or convolution.groups > 1 or isinstance(convolution.padding, str):
        return None
    fused = CudnnConvolution(convolution)
    inputs = (torch.zeros(shape, dtype=weight.dtype, device=weight.device) for shape in shapes)
    try:
        fused(*(images.contiguous(memory_format=torch.channels_last) for images in inputs))
        torch.cuda.synchronize()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # cuDNN fuses no convolution of such a shape
        return None
    return fused


def _part(graph: fx.GraphModule, node: Any) -> nn.Module | None:
    is_call = isinstance(node, fx.Node) and node.op == "call_module"
    return graph.get_submodule(str(node.target)) if is_call else None


def _parameter(graph: fx.GraphModule, node: Any) -> nn.Parameter | None:
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    owner, _, name = str(node.target).rpartition(".")
    value = getattr(graph.get_submodule(owner), name)
    return value if isinstance(value, nn.Parameter) else None


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _activation(graph: fx.GraphModule, node: fx.Node | None) -> Activation:
    """Return a step's activation as oneDNN knows it; NO_ACTIVATION if it is not one."""
    if node is None:
        return NO_ACTIVATION
    if node.target in RELUS:
        return RELU
    part = _part(graph, node) or nn.Identity()
    if node.target in GELUS or type(part) is nn.GELU:
        kind = getattr(part, "approximate", node.kwargs.get("approximate", "none"))
        return Activation("gelu", [], str(kind))
    return ACTIVATIONS.get(type(part), NO_ACTIVATION)


def _shapes(node: fx.Node) -> set[tuple[int, ...]]:
    """Return the shapes of a step's inputs if they are two different tensors and nothing else, otherwise no shape."""
    inputs = [argument for argument in node.args if isinstance(argument, fx.Node)]
    is_pair = len(inputs) == len(node.args) == 2 and inputs[0] is not inputs[1] and not node.kwargs
    return {_shape(tensor) for tensor in inputs} if is_pair else set()


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["tensor_meta"].shape)


def _replace(graph: fx.GraphModule, nodes: list[fx.Node], new: fx.Node) -> None:
    """Replace nodes, listed from the last to the first, by a new one. Users of the last node use the new one."""
    nodes[0].replace_all_uses_with(new)
    for node in nodes:
        graph.graph.erase_node(node)


class _Proxy(fx.Proxy):
    def __iter__(self) -> Iterator[fx.Proxy]:
        """Unpack as torch does, but read one instruction of the function that unpacks instead of all."""
        frame = sys._getframe(1)
        operation, count = frame.f_code.co_code[frame.f_lasti :][:2]
        if opname[operation] == "UNPACK_SEQUENCE":
            return (self[place] for place in range(count))  # type: ignore[index]
        return self.tracer.iter(self)


class _Tracer(fx.Tracer):
    leaves: tuple[type[nn.Module], ...] = ()

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*IDENTITIES, *self.leaves)) or super().is_leaf_module(m, module_qualified_name)
