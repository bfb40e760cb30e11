"""torchvision's classifiers by name: an untrained network, the name of the layer that classifies, what an unknown name may be."""

from typing import Any

import torch
from torch import nn
from torchvision import models


def build_network(architecture: str, *, image_size: int | None = None) -> nn.Module:
    """The untrained torchvision network, its auxiliary classifiers (used in pretraining only) left out.

    `image_size` (px) matters to transformers, whose shape depends on it; None for that of their first weights.
    """
    check_architecture(architecture)
    options: dict[str, Any] = {}
    if architecture in ("googlenet", "inception_v3"):
        # their published weights expect pictures scaled to -1..1, which they make of normalised ones themselves
        options = {"aux_logits": False, "transform_input": True, "init_weights": True}
    elif architecture.startswith("vit_") and image_size is not None:
        options = {"image_size": image_size}
    elif architecture.startswith("maxvit_") and image_size is not None:
        options = {"input_size": (image_size, image_size)}
    try:
        network: nn.Module = models.get_model(architecture, weights=None, **options)
    except (ValueError, AssertionError) as error:
        raise ValueError(f"{architecture} cannot take pictures of {image_size} px ({one_line(error)})") from error
    return network


def check_architecture(architecture: str) -> None:
    known = models.list_models(module=models)
    if architecture not in known:
        raise ValueError(f"architecture {architecture!r} is not one of torchvision's classifiers: {', '.join(known)}")


def num_parameters(architecture: str) -> int:
    """Of the published network, for 1000 classes; nothing is built."""
    return int(models.get_model_weights(architecture).DEFAULT.meta["num_params"])


def classification_layer(network: nn.Module) -> str:
    """The name of the layer that maps features to classes: in every torchvision classifier the last linear layer or
    convolution that it defines."""
    layers = [name for name, part in network.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    return str(layers[-1])


def build_network_outline(architecture: str) -> nn.Module:
    """The network with its parameters' shapes but no numbers, where torchvision can build it so."""
    try:
        with torch.device("meta"):
            return build_network(architecture)
    except NotImplementedError:  # RegNet computes its widths with tensors
        return build_network(architecture)


def one_line(error: Exception) -> str:
    """What a library says in many lines, as one."""
    return " ".join(str(error).split())[:200] or type(error).__name__
