"""Turn a backbone into a graph that computes the same in fewer, larger steps.

Normalisation is folded into the convolutions. oneDNN, and cuDNN on a GPU, do activations and residual sums while a
convolution's result is still in the processor's cache.

torch.compile with freezing is fast on these networks for the same reason. Here the steps need no C++ compiler and no
compile time, and which steps are fused depends only on the network.
"""

import copy
import inspect
import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision import ops

from tasks.embedding.exported import export_graph
from tasks.models.backbone import Backbone, mean_of_two, mean_over_positions, mirrored, resized, signed_power

IDENTITIES = (nn.Identity, nn.Dropout, ops.StochasticDepth)  # in evaluation mode
ADDITIONS = (operator.add, operator.iadd, torch.add)
# activation: its name in oneDNN, and its parameters
ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
    nn.Hardswish: ("hardswish", []),
}


def trace(backbone: Backbone, *, shares_weights: bool = False) -> fx.GraphModule:
    """Return a graph that maps normalised images (n, 3, size, size) to features (n, dim) as the backbone does.

    The graph has its own copy of the weights unless it shares them. Unlike the backbone, it may run in many threads at
    once.
    """
    shared = [*backbone.network.parameters(), *backbone.network.buffers()] if shares_weights else []
    network = copy.deepcopy(backbone.network, memo={id(tensor): tensor for tensor in shared}).eval()
    for part in network.modules():
        part._forward_hooks.clear()
    graph = _graph_of(network, backbone)
    output = graph.graph.output_node()
    # the last node of each part: a part that runs more than once has several keys, but one name in the values
    stacks = ((node, node.meta.get("nn_module_stack", {}).values()) for node in graph.graph.nodes)
    maps = {name: node for node, stack in stacks for name, _ in stack}
    features = []
    for name in backbone.sources:  # averaged right where the map is made: a later step may write over it
        with graph.graph.inserting_after(maps[name]):
            features.append(graph.graph.call_function(mean_over_positions, (maps[name],), backbone.order_of(name)))
    with graph.graph.inserting_before(output):
        joined = graph.graph.call_function(torch.cat, (features, 1)) if features else output.args[0]
        output.args = (graph.graph.call_method("flatten", (joined, 1)),)
    if backbone.flip or backbone.resolutions:
        graph = _of_all_views(graph, backbone)
    if backbone.power != 1:
        output = graph.graph.output_node()
        with graph.graph.inserting_before(output):
            output.args = (graph.graph.call_function(signed_power, (output.args[0], backbone.power)),)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _graph_of(network: nn.Module, backbone: Backbone) -> fx.GraphModule:
    """Return a graph of the network: torch.fx follows torchvision and timm, torch.export whatever transformers does."""
    if backbone.library == "transformers":
        return export_graph(network, image_size=backbone.transform.crop_size)
    if backbone.library == "torchvision":
        return fx.GraphModule(network, _Tracer(autowrap_modules=(math, ops)).trace(network))
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
    return fx.GraphModule(network, graph)


def _of_all_views(graph: fx.GraphModule, backbone: Backbone) -> fx.GraphModule:
    """Return a graph that runs every step of another on each resolution and mirror image, and joins the features."""
    whole = fx.Graph()
    images = whole.placeholder("images")
    [own_images] = [node for node in graph.graph.nodes if node.op == "placeholder"]

    def features_of(seen: fx.Node) -> Any:
        return whole.graph_copy(graph.graph, {own_images: seen})

    parts = []
    for size in (*backbone.resolutions, None):
        seen = whole.call_function(resized, (images, size)) if size else images
        features = features_of(seen)
        if backbone.flip:
            others = features_of(whole.call_function(mirrored, (seen,)))
            features = whole.call_function(mean_of_two, (features, others))
        parts.append(features)
    whole.output(whole.call_function(torch.cat, (parts, 1)))
    return fx.GraphModule(graph, whole)


class FusedConvolution(nn.Module):
    """A convolution, an optional sum with another tensor and an optional activation, as one step of oneDNN.

    Its weights are in the layout that oneDNN wants for inputs of `shape` (n, channels, height, width).
    """

    def __init__(self, convolution: nn.Conv2d, *, shape: list[int], activation: tuple[str, list[float]]) -> None:
        super().__init__()
        self.window = (convolution.padding, convolution.stride, convolution.dilation, convolution.groups)
        self.activation, self.numbers = activation
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        self.weight = reorder(convolution.weight.detach().to_mkldnn(), *self.window, shape)
        self.bias = None if convolution.bias is None else convolution.bias.detach()

    def forward(self, images: Tensor, other: Tensor | None = None) -> Tensor:
        convolve = torch.ops.mkldnn._convolution_pointwise
        result: Tensor
        if other is None:
            result = convolve(images, self.weight, self.bias, *self.window, self.activation or "none", self.numbers, "")
        else:
            activation = self.activation or None
            result = convolve.binary(
                images, other, self.weight, self.bias, *self.window, "add", 1.0, activation, self.numbers, None
            )
        return result


class CudnnConvolution(nn.Module):
    """The same on a GPU, as one step of cuDNN, which has no other activation than ReLU."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        padding: Any = convolution.padding
        self.window = (convolution.stride, padding, convolution.dilation, convolution.groups)
        self.weight = convolution.weight.detach()
        self.bias = None if convolution.bias is None else convolution.bias.detach()

    def forward(self, images: Tensor, other: Tensor | None = None) -> Tensor:
        result: Tensor
        if other is None:
            result = torch.ops.aten.cudnn_convolution_relu(images, self.weight, self.bias, *self.window)
        else:
            result = torch.ops.aten.cudnn_convolution_add_relu(images, self.weight, other, 1.0, self.bias, *self.window)
        return result


def fold(graph: fx.GraphModule) -> None:
    """Remove steps that do nothing in evaluation mode, and fold every normalisation into the convolution before it."""
    folded: set[tuple[str, str]] = set()  # layers may run several times, see `_of_all_views`
    for node in list(graph.graph.nodes):
        part = _part(graph, node)
        if isinstance(part, IDENTITIES):
            _replace(graph, [node], node.args[0])
        elif isinstance(part, nn.BatchNorm2d):
            convolution = _part(graph, node.args[0])
            # of the kinds of convolution, these two use their weights as they are
            has_own_weights = type(convolution).__name__ in ("Conv2d", "Conv2dSame")
            if isinstance(convolution, nn.Conv2d) and has_own_weights and len(node.args[0].users) == 1:
                if (pair := (node.args[0].target, node.target)) not in folded:
                    graph.set_submodule(node.args[0].target, fuse_conv_bn_eval(convolution, part))
                    folded.add(pair)
                activation = getattr(part, "act", None)  # timm's normalisation ends in one
                if isinstance(activation, nn.Module) and not isinstance(activation, IDENTITIES):
                    node.target = f"{node.target}.act"
                else:
                    _replace(graph, [node], node.args[0])
    graph.recompile()


def fuse(graph: fx.GraphModule, images: Tensor) -> None:
    """Fuse every convolution with the sum and the activation that follow it.

    A result that another step needs is not fused away.

    `images` is an example of the inputs to come: it has their number, size, layout, precision and device.
    """
    ShapeProp(graph).propagate(images)
    for node in list(graph.graph.nodes):
        convolution = _part(graph, node)
        if type(convolution) is not nn.Conv2d or convolution.padding_mode != "zeros":
            continue
        done, other = [node], None
        follower = _only_user(node)
        if follower is not None and follower.target in ADDITIONS and _shapes(follower) == {_shape(node)}:
            other = next(summand for summand in follower.args if summand is not node)
            done.append(follower)
            follower = _only_user(follower)
        activation = _activation(graph, follower)
        if activation[0]:
            done.append(follower)
        inputs: Any = (node.args[0],) if other is None else (node.args[0], other)
        fused = _fused(convolution, [_shape(one) for one in inputs], activation=activation)
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


def _fused(
    convolution: nn.Conv2d, shapes: Sequence[tuple[int, ...]], *, activation: tuple[str, list[float]]
) -> nn.Module | None:
    """Return the fused step for inputs of these `shapes`, a convolution's and a summand's; None where there is none."""
    weight = convolution.weight
    if not weight.is_cuda:
        return FusedConvolution(convolution, shape=list(shapes[0]), activation=activation)
    if activation != ACTIVATIONS[nn.ReLU] or convolution.groups > 1 or isinstance(convolution.padding, str):
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


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _activation(graph: fx.GraphModule, node: fx.Node | None) -> tuple[str, list[float]]:
    """Return oneDNN's name of a step's activation, and its parameters; the name is empty if it is not an activation."""
    if node is not None and node.target in (F.relu, torch.relu):
        return ACTIVATIONS[nn.ReLU]
    return ACTIVATIONS.get(type(_part(graph, node) or nn.Identity()), ("", []))


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


class _Tracer(fx.Tracer):
    leaves: tuple[type[nn.Module], ...] = ()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*IDENTITIES, *self.leaves)) or super().is_leaf_module(m, module_qualified_name)
