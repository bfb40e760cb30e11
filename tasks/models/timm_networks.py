"""timm's networks by name: build one without its classes, and read weights and transform as timm writes them.

It is imported only where `backbone.library` is timm, and timm itself only inside its functions.
"""

import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tasks.images.transform import IMAGENET_MEAN, IMAGENET_STD, Transform
from tasks.models.architecture import one_line
from tasks.models.weight_folder import Pretrained, find_folder, is_triple, read_config, weights_in

AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # classifiers that only pretraining uses
POOLINGS = ("avg", "avgmax", "max", "token", "map")
RESIZE = {"center": "shorter_side", "squash": "squash"}  # timm's crop_mode: its name in `Transform`
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
# of a network's model_args, those that are read, or that change no feature; so do the rates of dropout
ARGUMENTS = (
    "dynamic_img_pad",
    "dynamic_img_size",
    "global_pool",
    "img_size",
    "in_chans",
    "num_classes",
    "strict_img_size",
)
CROP_PCT = 0.875  # where timm names none
FEW = 20  # names that a message shows


def check_architecture(architecture: str) -> None:
    """Raise ValueError if timm has no network of this name, which may end in a tag, such as resnet50.a1_in1k."""
    import timm

    if not timm.is_model(architecture):
        near = timm.list_models(f"*{architecture.split('.')[0].split('_')[0][:20]}*")[:FEW] or timm.list_models()[:FEW]
        raise ValueError(f"architecture {architecture[:60]!r} is not one of timm's, such as {', '.join(near)}")


def build_network(architecture: str, config: dict[str, Any], *, image_size: int, is_pooled: bool) -> nn.Module:
    """Return the untrained network without classes: normalised images (n, 3, size, size) in, features (n, dim) out.

    `config` may hold `global_pool`, the way features are pooled where it is not the network's own. With `is_pooled`
    the caller takes the mean of the map at `last_map`.

    Raises ValueError if the architecture is unknown or cannot take images of that size (px).
    """
    import timm

    check_architecture(architecture)
    if set(config) - {"global_pool"} or config.get("global_pool", POOLINGS[0]) not in POOLINGS:
        raise ValueError(f"config of {architecture} is {str(config)[:60]}, expected global_pool, one of {POOLINGS}")
    own = timm.get_pretrained_cfg(architecture)
    fixed = {"img_size": image_size} if own and own.fixed_input_size and own.input_size[-1] != image_size else {}
    try:
        network: nn.Module = timm.create_model(architecture, num_classes=0, **config, **fixed)
    except (ValueError, AssertionError, TypeError, RuntimeError) as error:
        raise ValueError(f"{architecture} cannot take images of {image_size} px ({one_line(error)})") from error
    return network


def untraced() -> tuple[tuple[type[nn.Module], ...], tuple[Any, ...]]:
    """Return the classes of parts, and the functions, that a trace calls and does not look into."""
    from timm.layers import get_notrace_functions, get_notrace_modules

    return (nn.BatchNorm2d, *get_notrace_modules()), tuple(get_notrace_functions())


def last_map(network: nn.Module, images: Tensor) -> str:
    """Return the name of the part that makes the last map before pooling."""
    names: list[str] = []

    def remember(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim in (3, 4):
                names.append(name)

        return hook

    hooks = [part.register_forward_hook(remember(name)) for name, part in network.named_modules() if name]
    try:
        with torch.no_grad():
            network.forward_features(images)  # type: ignore[operator]
    finally:
        for handle in hooks:
            handle.remove()
    return names[-1]


def find_pretrained(architecture: str, place: str | None) -> Pretrained:
    """Return the parts of a pretrained network besides its architecture.

    Args:
        place: a safetensors file, whose transform is the architecture's own; a folder with the config.json and the
            model.safetensors that timm writes; the name of such a folder on the hub; None for random weights.

    Raises ValueError where a file is missing, or of another architecture.
    """
    import timm

    check_architecture(architecture)
    if place is None or place.endswith(".safetensors"):
        own = timm.get_pretrained_cfg(architecture)
        facts = own.to_dict() if own else {}
        return Pretrained(
            config={}, transform=make_transform(facts, name=architecture), file=Path(place) if place else None
        )
    folder = find_folder(place)
    content = read_config(folder / "config.json")
    named = str(content.get("architecture"))
    if named.split(".")[0] != architecture.split(".")[0]:
        raise ValueError(
            f"{folder / 'config.json'} is of the architecture {named[:60]!r}, and backbone.architecture is "
            f"{architecture}: make them the same"
        )
    facts, arguments = dict(content.get("pretrained_cfg") or content), dict(content.get("model_args") or {})
    if (size := arguments.get("img_size")) is not None:
        facts["input_size"] = [arguments.get("in_chans", 3), *(size if isinstance(size, list) else [size, size])]
    if unknown := sorted(name for name in arguments if name not in ARGUMENTS and not name.endswith("_rate")):
        raise ValueError(f"{folder / 'config.json'} changes the architecture by {unknown[0][:60]}, which is not read")
    return Pretrained(
        config={name: arguments[name] for name in ("global_pool",) if name in arguments},
        transform=make_transform(facts, name=str(folder / "config.json")),
        file=weights_in(folder),
    )


def make_transform(facts: dict[str, Any], *, name: str) -> Transform:
    """Return the evaluation transform that timm's pretrained_cfg describes. Raises ValueError where it is another."""
    size = facts.get("input_size", (3, 224, 224))
    channels, height, width = size if isinstance(size, list | tuple) and len(size) == 3 else (0, 0, 0)
    crop_mode, interpolation = facts.get("crop_mode") or "center", facts.get("interpolation") or "bicubic"
    if channels != 3 or height != width or not isinstance(height, int):
        raise ValueError(f"{name} has input_size {str(size)[:60]}, expected 3 channels and a square")
    if crop_mode not in RESIZE or interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"{name} has crop_mode {crop_mode} and interpolation {interpolation}, expected {' or '.join(RESIZE)} and "
            f"one of {', '.join(INTERPOLATIONS)}"
        )
    mean, std = facts.get("mean") or IMAGENET_MEAN, facts.get("std") or IMAGENET_STD
    crop_pct = facts.get("crop_pct") or CROP_PCT
    if not is_triple(mean) or not is_triple(std) or not isinstance(crop_pct, int | float) or not 0.1 <= crop_pct <= 2:
        raise ValueError(
            f"{name} has mean {str(mean)[:40]}, std {str(std)[:40]} and crop_pct {str(crop_pct)[:40]}, expected three "
            "numbers, three numbers and a share"
        )
    return Transform.from_dict(
        {
            "resize_size": math.floor(height / crop_pct), "crop_size": height, "mean": mean, "std": std,
            "interpolation": interpolation, "resize": RESIZE[crop_mode],
        }
    )  # fmt: skip


def own_tensors(
    architecture: str, network: nn.Module, config: dict[str, Any], state: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the tensors without those of classifiers, in the names and shapes of today's network.

    timm itself brings older names to today's, and positions to another image size.
    """
    import timm

    own = timm.get_pretrained_cfg(architecture)
    layers = (own.classifier if own else None) or ()
    dropped = tuple(f"{name}." for name in ((layers,) if isinstance(layers, str) else layers)) + AUXILIARY
    bring = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if bring:
        state = bring(state, network)
    return {name: tensor for name, tensor in state.items() if not name.startswith(dropped)}
