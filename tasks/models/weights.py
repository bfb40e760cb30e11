"""Where pretrained weights come from: their name, or a file's, in; a backbone filled with them out. No file's code is run."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torchvision import models

from tasks.images.transform import Decode, Transform
from tasks.models.architecture import build_network_outline, check_architecture, classification_layer, one_line
from tasks.models.backbone import Backbone, Features

RANDOM = "random"  # in place of the weights' name: an untrained backbone, for training from scratch


def load_backbone(
    architecture: str,
    *,
    weights: str,
    features: Features = "penultimate",
    image_size: int | None = None,
    decode: Decode = "full",
) -> Backbone:
    """A pretrained backbone.

    Args:
        architecture: a torchvision classification architecture, by its torchvision name.
        weights: a torchvision weights name (downloaded unless cached, hash checked), a safetensors or state-dict
            file (loaded without running code), or "random".
        features: see `Backbone`.
        image_size: px of the square that the network sees; None for that of the weights' own transform.
        decode: see `Transform`.

    Raises:
        ValueError: unknown architecture or weights, weights of another architecture, or weights that can neither be
            found here nor downloaded.
    """
    check_architecture(architecture)
    path = Path(weights)
    is_file = path.suffix in (".safetensors", ".pt", ".pth")
    header = _header(path) if is_file else {}
    if is_file or weights == RANDOM:
        preset = models.get_model_weights(architecture).DEFAULT.transforms()
    else:
        preset = _named_weights(architecture, weights).transforms()
    backbone = Backbone(architecture, features=features, transform=_transform(preset, header, image_size, decode))
    if weights != RANDOM:
        state = _read_state(path) if is_file else _download(architecture, weights)
        load_weights(backbone, state, name=weights)
    return backbone.eval()


def load_weights(backbone: Backbone, state: dict[str, Tensor], *, name: str) -> None:
    """Fill the backbone from a torchvision state dict, whose classification layer (any number of classes) and
    auxiliary classifiers are not needed. Raises ValueError where the rest does not fit."""
    layer = classification_layer(build_network_outline(backbone.architecture))
    extra = (f"{layer}.", "aux1.", "aux2.", "AuxLogits.")
    state = {modern_key(key): tensor for key, tensor in state.items() if not key.startswith(extra)}
    advice = f"name the architecture that they were trained with instead of {backbone.architecture}"
    fill(backbone.network, state, name=f"weights {name}", advice=advice, optional=("num_batches_tracked",))


def fill(
    module: nn.Module, state: dict[str, Tensor], *, name: str, advice: str, optional: tuple[str, ...] = ()
) -> None:
    """Set all tensors of a module. Raises ValueError naming the first that is missing (unless its name ends in one of
    `optional`), unknown or of another shape."""
    expected = module.state_dict()
    shapes, wanted = ({key: tuple(each.shape) for key, each in tensors.items()} for tensors in (state, expected))
    check_fit(shapes, wanted, name=name, advice=advice, optional=optional)
    expected.update(state)  # keeps the version marks, without which torchvision takes some for an older layout
    module.load_state_dict(expected)


def check_fit(
    found: Mapping[str, tuple[int, ...]],
    expected: Mapping[str, tuple[int, ...]],
    *,
    name: str,
    advice: str,
    optional: tuple[str, ...] = (),
) -> None:
    """By name of a tensor: its shape. Raises ValueError as `fill` does."""
    missing = [key for key in expected if key not in found and not key.endswith(optional or ("\0",))]
    unknown = [key for key in found if key not in expected]
    misshapen = [key for key in found if key in expected and found[key] != expected[key]]
    for problem, keys in (("lack", missing), ("have the unknown", unknown), ("have another shape for", misshapen)):
        if keys:
            raise ValueError(f"{name} do not fit: they {problem} {keys[0]} ({len(keys)} such tensors); {advice}")


def modern_key(key: str) -> str:
    """The published weights of DenseNet and ViT still use the names that their parts had once."""
    key = re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key)
    return key.replace(".mlp.linear_1.", ".mlp.0.").replace(".mlp.linear_2.", ".mlp.3.")


def _named_weights(architecture: str, name: str) -> Any:
    known = models.get_model_weights(architecture)
    try:
        return known[name]
    except KeyError:
        raise ValueError(
            f"weights {name!r} are not known for {architecture}: torchvision has "
            f"{', '.join(each.name for each in known)}; a file's name ends in .safetensors, .pt or .pth"
        ) from None


def _download(architecture: str, name: str) -> dict[str, Tensor]:
    weights = _named_weights(architecture, name)
    place = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    advice = f"fetch {weights.url} on another machine and put it at {place}, or name a local file as backbone.weights"
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, TimeoutError, ConnectionError) as error:
        raise ValueError(
            f"weights {architecture} {name} are not cached and cannot be fetched ({error}): {advice}"
        ) from error
    except Exception as error:  # a torn file can make torch raise nearly anything
        raise ValueError(
            f"weights {architecture} {name} at {place} are damaged ({error}): remove them, then {advice}"
        ) from error
    return state


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"there is no weights file {path}: put it there, or correct backbone.weights in params.yaml")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        except SafetensorError as error:
            raise ValueError(f"weights file {path} is not a whole safetensors file ({error}): copy it again") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a stranger's file can make torch raise nearly anything
        reason = one_line(error)
        raise ValueError(
            f"weights file {path} is not a plain state dict ({reason}): save one with torch.save"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"weights file {path} holds no state dict: expected tensors by name, save model.state_dict()")
    return state


def _header(path: Path) -> dict[str, Any]:
    """What a safetensors file says of its transform, as JSON under `transform`; {} where it says nothing."""
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("transform", "")
    except SafetensorError:
        return {}  # _read_state names what is wrong with it
    try:
        return Transform.from_dict(json.loads(text)).to_dict() if text else {}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"the header of weights file {path} has no valid transform ({one_line(error)}): save it again"
        ) from error


def _transform(preset: Any, header: dict[str, Any], image_size: int | None, decode: Decode) -> Transform:
    transform = replace(Transform.from_dict(header) if header else Transform.from_preset(preset), decode=decode)
    return transform if image_size is None else replace(transform, resize_size=image_size, crop_size=image_size)
