"""A pretrained torchvision classifier with its last layer cut off: images in, features out."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from pickle import UnpicklingError  # what torch.load raises for a file that is not a plain state dict
from typing import Any, Literal
from urllib.error import URLError

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torchvision import models

from tasks.models.transform import Transform

Features = Literal["penultimate", "pooled"] | Sequence[str]

RANDOM = "random"  # in place of the weights' name: an untrained backbone, for training from scratch


class Backbone(nn.Module):
    """Maps normalised images (n, 3, size, size) float32 to features (n, dim) float32.

    `features` says which: "penultimate", the input of the network's last classification layer; "pooled", the mean
    over all positions of its last feature map; or the names of submodules, whose outputs are averaged over all
    positions and concatenated (features of several depths).

    Raises ValueError for an unknown architecture, an unknown submodule, or a picture size that it cannot take.
    """

    def __init__(self, architecture: str, *, features: Features, transform: Transform) -> None:
        super().__init__()
        self.architecture = architecture
        self.features = features
        self.transform = transform
        self.network = build_network(architecture)
        self.network.set_submodule(classification_layer(self.network), nn.Identity())
        self._captured: dict[str, Tensor] = {}
        self._sources: tuple[str, ...] = ()
        self._sources = self._find_sources()
        for name in self._sources:
            self.network.get_submodule(name).register_forward_hook(self._capture(name))
        self.dim = int(self._probe().shape[1])
        self.network.to(memory_format=torch.channels_last)  # convolutions are faster so, on processors too

    def forward(self, images: Tensor) -> Tensor:
        penultimate: Tensor = self.network(images)
        if not self._sources:
            return penultimate.flatten(1)  # (n, dim)
        maps = [self._captured.pop(name) for name in self._sources]
        return torch.cat([mean_over_positions(each) for each in maps], dim=1)  # (n, dim)

    def fingerprint(self) -> str:
        """SHA-256 (hex) of everything that a feature depends on besides the picture: any change gives another."""
        digest = hashlib.sha256()
        recipe = [self.architecture, self.features, self.transform.to_dict()]
        digest.update(json.dumps(recipe, sort_keys=True).encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def blocks(self) -> list[nn.ModuleList]:
        """The parts that can be frozen or trained one by one, from the input to the output; each has parameters.
        A normalisation layer belongs to the block that it follows."""
        blocks: list[nn.ModuleList] = []
        for part in _parts(self.network):
            if isinstance(part, nn.BatchNorm2d | nn.LayerNorm) and blocks:
                blocks[-1].append(part)
            else:
                blocks.append(nn.ModuleList([part]))
        return blocks

    def _find_sources(self) -> tuple[str, ...]:
        if self.features == "penultimate":
            return ()
        if self.features == "pooled":
            return (self._last_feature_map(),)
        known = dict(self.network.named_modules())
        unknown = [name for name in self.features if name not in known]
        if unknown:
            raise ValueError(
                f"backbone.features names {unknown[0]!r}, which {self.architecture} lacks; "
                f"its parts are {', '.join(name for name, _ in self.network.named_children())}"
            )
        return tuple(self.features)

    def _last_feature_map(self) -> str:
        """The name of the last submodule that gives a map of more than one position (or tokens) for a picture."""
        last = ""

        def remember(name: str) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                nonlocal last
                is_pooling = isinstance(module, nn.AdaptiveAvgPool2d)
                if isinstance(output, Tensor) and output.ndim in (3, 4) and not is_pooling:
                    last = name if output[0, 0].numel() > 1 or output.ndim == 3 else last

            return hook

        hooks = [part.register_forward_hook(remember(name)) for name, part in self.network.named_modules() if name]
        try:
            self._probe()
        finally:
            for hook in hooks:
                hook.remove()
        return last

    def _capture(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self._captured[name] = output

        return hook

    def _probe(self) -> Tensor:
        size = self.transform.crop_size
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                features: Tensor = self(torch.zeros(1, 3, size, size))
                return features
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{self.architecture} cannot take pictures of {size} px ({reason})") from error
        finally:
            self.train(was_training)


def load_backbone(
    architecture: str, *, weights: str, features: Features = "penultimate", image_size: int | None = None
) -> Backbone:
    """A pretrained backbone.

    Args:
        architecture: a torchvision classification architecture, by its torchvision name.
        weights: a torchvision weights name (downloaded unless cached, hash checked), a safetensors or state-dict
            file (loaded without running code), or "random".
        features: see `Backbone`.
        image_size: px of the square that the network sees; None for that of the weights' own transform.

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
    backbone = Backbone(architecture, features=features, transform=_transform(preset, header, image_size))
    if weights != RANDOM:
        state = _read_state(path) if is_file else _download(architecture, weights)
        load_weights(backbone, state, name=weights)
    return backbone.eval()


def build_network(architecture: str) -> nn.Module:
    """The untrained torchvision network, its auxiliary classifiers (used in pretraining only) left out."""
    check_architecture(architecture)
    options = {"aux_logits": False, "init_weights": True} if architecture in ("googlenet", "inception_v3") else {}
    network: nn.Module = models.get_model(architecture, weights=None, **options)
    return network


def check_architecture(architecture: str) -> None:
    known = models.list_models(module=models)
    if architecture not in known:
        raise ValueError(f"architecture {architecture!r} is not one of torchvision's classifiers: {', '.join(known)}")


def classification_layer(network: nn.Module) -> str:
    """The name of the layer that maps features to classes: in every torchvision classifier the last linear layer or
    convolution that it defines."""
    layers = [name for name, part in network.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    return str(layers[-1])


def mean_over_positions(features: Tensor) -> Tensor:
    """(n, channels, height, width) or tokens (n, positions, channels) or (n, channels) -> (n, channels)."""
    if features.ndim == 3:
        return features.mean(dim=1)
    return features.flatten(2).mean(dim=2) if features.ndim == 4 else features


def load_weights(backbone: Backbone, state: dict[str, Tensor], *, name: str) -> None:
    """Fill the backbone from a torchvision state dict, whose classification layer (any number of classes) and
    auxiliary classifiers are not needed. Raises ValueError where the rest does not fit."""
    expected = backbone.network.state_dict()
    layer = classification_layer(build_network_outline(backbone.architecture))
    extra = (f"{layer}.", "aux1.", "aux2.", "AuxLogits.")
    state = {key: tensor for key, tensor in state.items() if not key.startswith(extra)}
    missing = [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in expected]
    misshapen = [key for key in state if key in expected and state[key].shape != expected[key].shape]
    for problem, keys in (("lacks", missing), ("has the unknown", unknown), ("has another shape for", misshapen)):
        if keys:
            raise ValueError(
                f"weights {name} do not fit {backbone.architecture}: the file {problem} {keys[0]} "
                f"({len(keys)} such tensors); name the architecture that they were trained with"
            )
    backbone.network.load_state_dict(expected | state)


def build_network_outline(architecture: str) -> nn.Module:
    """The network with its parameters' shapes but no numbers, where torchvision can build it so."""
    try:
        with torch.device("meta"):
            return build_network(architecture)
    except NotImplementedError:  # RegNet computes its widths with tensors
        return build_network(architecture)


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    containers = (nn.Sequential, nn.ModuleList, models.regnet.AnyStage, models.vision_transformer.Encoder)
    for child in module.children():
        if type(child) in containers:
            yield from _parts(child)
        elif any(True for _ in child.parameters()):
            yield child


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
    except (RuntimeError, EOFError, UnpicklingError) as error:
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
    except (RuntimeError, EOFError, UnpicklingError) as error:
        reason = str(error).splitlines()[0]
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
            header: dict[str, Any] = json.loads((file.metadata() or {}).get("transform", "{}"))
            return header
    except SafetensorError:
        return {}  # _read_state names what is wrong with it


def _transform(preset: Any, header: dict[str, Any], image_size: int | None) -> Transform:
    if header:
        transform = Transform.from_dict(header)
    else:
        transform = Transform(
            resize_size=preset.resize_size[0],
            crop_size=preset.crop_size[0],
            mean=tuple(preset.mean),
            std=tuple(preset.std),
            interpolation=preset.interpolation.value,
        )
    if image_size is None:
        return transform
    return Transform.from_dict(transform.to_dict() | {"resize_size": image_size, "crop_size": image_size})
