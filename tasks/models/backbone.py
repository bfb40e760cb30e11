"""A pretrained torchvision classifier with its last layer cut off: images in, features out."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
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
        self.network = build_network(architecture, image_size=transform.crop_size)
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
        return torch.cat([self._captured.pop(name) for name in self._sources], dim=1)  # (n, dim)

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
            return self._last_feature_map()
        known = dict(self.network.named_modules())
        for name in self.features:
            if name not in known:
                parts = ", ".join(name for name, _ in self.network.named_children())
                raise ValueError(
                    f"backbone.features names {name!r}, which {self.architecture} lacks; its parts are {parts}"
                )
            if list(self.features).count(name) > 1:
                raise ValueError(f"backbone.features names {name!r} twice, expected each part once")
        return tuple(self.features)

    def _last_feature_map(self) -> tuple[str, ...]:
        """The name of the part that gives the last map; () where the classification layer reads that map's mean."""
        layer = classification_layer(build_network_outline(self.architecture))
        top = layer.split(".")[0]
        is_transformer = isinstance(
            self.network, models.VisionTransformer
        )  # its last layer reads the class token alone
        if not is_transformer and not any(True for _ in self.network.get_submodule(top).parameters()):
            return ()
        names: list[str] = []

        def remember(name: str) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                if (
                    isinstance(output, Tensor)
                    and output.ndim in (3, 4)
                    and not isinstance(module, nn.AdaptiveAvgPool2d)
                ):
                    names.append(name)

            return hook

        parts = [(name, part) for name, part in self.network.named_modules() if name.split(".")[0] not in ("", top)]
        hooks = [part.register_forward_hook(remember(name)) for name, part in parts]
        try:
            self._probe()
        finally:
            for each in hooks:
                each.remove()
        return (names[-1],)

    def _capture(self, name: str) -> Any:
        # Swin keeps its maps as (n, height, width, channels) until `permute`
        is_channels_last = self.architecture.startswith("swin") and name != "permute"

        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
                raise ValueError(
                    f"backbone.features names {name!r}, whose output is no feature map: name a part around it"
                )
            is_map = output.ndim == 4 and is_channels_last
            self._captured[name] = mean_over_positions(output.permute(0, 3, 1, 2) if is_map else output)

        return hook

    def _probe(self) -> Tensor:
        size = self.transform.crop_size
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                features: Tensor = self(torch.zeros(1, 3, size, size))
                return features
        except KeyError as error:
            raise ValueError(
                f"backbone.features names {error}, which is never run by itself: name a part around it"
            ) from error
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"{self.architecture} cannot take pictures of {size} px ({_one_line(error)})") from error
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
        raise ValueError(f"{architecture} cannot take pictures of {image_size} px ({_one_line(error)})") from error
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
    missing = [key for key in expected if key not in state and not key.endswith(optional or ("\0",))]
    unknown = [key for key in state if key not in expected]
    misshapen = [key for key in state if key in expected and state[key].shape != expected[key].shape]
    for problem, keys in (("lack", missing), ("have the unknown", unknown), ("have another shape for", misshapen)):
        if keys:
            raise ValueError(f"{name} do not fit: they {problem} {keys[0]} ({len(keys)} such tensors); {advice}")
    expected.update(state)  # keeps the version marks, without which torchvision takes some for an older layout
    module.load_state_dict(expected)


def modern_key(key: str) -> str:
    """The published weights of DenseNet and ViT still use the names that their parts had once."""
    key = re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key)
    return key.replace(".mlp.linear_1.", ".mlp.0.").replace(".mlp.linear_2.", ".mlp.3.")


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
        reason = _one_line(error)
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
            f"the header of weights file {path} has no valid transform ({_one_line(error)}): save it again"
        ) from error


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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
