"""torchvision's classifiers by name: build an untrained network, and find the layer that classifies."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision import models

Built = TypeVar("Built")


def build_network(architecture: str, *, image_size: int | None = None) -> nn.Module:
    """Return the untrained torchvision network without auxiliary classifiers, which only pretraining uses.

    `image_size` (px) matters to transformers, whose shape depends on it. None means the size that torchvision's own
    default has.

    Raises ValueError if the architecture is unknown or cannot take images of that size.
    """
    check_architecture(architecture)
    options: dict[str, Any] = {}
    if architecture in ("googlenet", "inception_v3"):
        # their published weights expect images scaled to -1..1; with `transform_input` the network scales them itself
        options = {"aux_logits": False, "transform_input": True, "init_weights": True}
    elif architecture.startswith("vit_") and image_size is not None:
        options = {"image_size": image_size}
    elif architecture.startswith("maxvit_") and image_size is not None:
        options = {"input_size": (image_size, image_size)}
    try:
        network: nn.Module = models.get_model(architecture, weights=None, **options)
    except (ValueError, AssertionError) as error:
        raise ValueError(f"{architecture} cannot take images of {image_size} px ({one_line(error)})") from error
    return network


def check_architecture(architecture: str) -> None:
    """Raise ValueError if torchvision has no classifier of this name."""
    known = models.list_models(module=models)
    if architecture not in known:
        raise ValueError(f"architecture {architecture!r} is not one of torchvision's classifiers: {', '.join(known)}")


def num_parameters(architecture: str) -> int:
    """Return the number of parameters of the published network, for 1000 classes, without building it."""
    return int(models.get_model_weights(architecture).DEFAULT.meta["num_params"])


def classification_layer(network: nn.Module) -> str:
    """Return the name of the layer that maps features to classes.

    In every torchvision classifier it is the last linear layer or convolution that the network defines.
    """
    layers = [name for name, part in network.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    return str(layers[-1])


def build_network_outline(architecture: str) -> nn.Module:
    """Return the network with the shapes of its parameters, but without their values."""
    return without_values(lambda: build_network(architecture))


def without_values(build: Callable[[], Built]) -> Built:
    """Return the module that `build` builds, with the shapes and types of its tensors but without their values.

    It takes no memory and computes nothing, even where `build` runs it.
    """
    try:
        with torch.device("meta"):
            return build()
    except NotImplementedError:  # RegNet computes its widths with tensors, which need their values
        with ParametersWithoutValues():
            return build()


class ParametersWithoutValues(TorchFunctionMode):
    """Makes the tensors that parameters and inputs begin as, and no others, without values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.empty, torch.zeros, torch.ones):
            kwargs = {**(kwargs or {}), "device": "meta"}
        return func(*args, **(kwargs or {}))


def without_random_values(build: Callable[[], Built]) -> Built:
    """Return the module that `build` builds, for a file to fill: drawing random weights takes most of the time.

    A parameter has the mean of the distribution that it would be drawn from. An initialisation that draws until all
    numbers are within bounds still ends: it draws into other tensors, which are random.
    """
    with ParametersAtTheirMeans():
        return build()


class ParametersAtTheirMeans(TorchFunctionMode):
    """Gives a parameter, and no other tensor, the mean of the distribution that it would be drawn from."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        drawn = args[0] if args else kwargs.get("tensor")  # those of torch.nn.init name their arguments
        name = getattr(func, "__name__", None)
        if name not in ("normal_", "uniform_", "kaiming_uniform_") or not isinstance(drawn, nn.Parameter):
            return func(*args, **kwargs)
        mean = 0.0
        if name == "normal_":
            mean = args[1] if len(args) > 1 else kwargs.get("mean", 0.0)
        elif name == "uniform_":
            low = args[1] if len(args) > 1 else kwargs.get("from", kwargs.get("a", 0.0))
            high = args[2] if len(args) > 2 else kwargs.get("to", kwargs.get("b", 1.0))
            mean = (low + high) / 2
        drawn.detach().fill_(mean)
        return drawn


def one_line(error: Exception) -> str:
    """Return the message of an error, cut to 200 characters, in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
