"""A pretrained network for images with its last layer cut off: images in, features out."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from threading import get_ident
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from tasks.images.transform import Transform
from tasks.models.architecture import build_network, build_network_outline, classification_layer, one_line
from tasks.models.libraries import networks_of
from tasks.models.options import Library

SMALL = 0.01  # features are tens in a network without normalisation, about 1 in others

Features = Literal["penultimate", "pooled"] | Sequence[str]


class Backbone(nn.Module):
    """Maps normalised images (n, 3, size, size) float32 to features (n, dim) float32.

    `features` chooses the features:
    - "penultimate": the input of the network's last classification layer;
    - "pooled": the mean of its last feature map over all positions;
    - names of submodules: their outputs, averaged over all positions and concatenated (features of several depths).

    With `flip`, features are the mean of those of the image and of its mirror image. `resolutions` are further sizes in
    px, below that of the images: the image is resized to each, and the features of all sizes are joined, those of the
    full size last. The network runs once for each.

    With a `power` p below 1, each feature x becomes about x |x|^(p - 1): a square root for 0.5. It tames large features
    (Perronnin et al. 2010, "Improving the Fisher Kernel").

    `library` names where the network comes from. `config` has its further settings: of transformers the config.json.

    Raises ValueError for an unknown architecture, an unknown submodule, an image size that the network cannot take,
    resolutions that it cannot take or that are not below the image size, or a library that is not installed.
    """

    def __init__(
        self,
        architecture: str,
        *,
        features: Features,
        transform: Transform,
        library: Library = "torchvision",
        config: dict[str, Any] | None = None,
        power: float = 1.0,
        flip: bool = False,
        resolutions: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.library: Library = library
        own = () if library == "torchvision" else (library,)
        # a feature depends on the versions of these
        self.packages: tuple[str, ...] = ("numpy", "pillow", "torch", "torchvision", *own)
        self.config = config or {}
        self.features = features
        self.power = power
        self.flip = flip
        self.resolutions = self._smaller_than(transform.crop_size, resolutions)
        self.transform = transform
        if library == "torchvision":
            self.network = build_network(architecture, image_size=transform.crop_size)
            self.network.set_submodule(classification_layer(self.network), nn.Identity())
        else:
            self.network = networks_of(library).build_network(
                architecture, self.config, image_size=transform.crop_size, is_pooled=features == "pooled"
            )
        # tokens of a map that stand before those of positions; torchvision's transformers count theirs as a position
        self.num_prefix_tokens = 0 if library == "torchvision" else int(getattr(self.network, "num_prefix_tokens", 0))
        self._captured: dict[tuple[int, str], Tensor] = {}  # by thread: several threads may run the network at once
        self._dims: dict[str, int] = {}  # of the features of each source
        self.sources: tuple[str, ...] = ()
        self.sources = self._find_sources()
        for name in self.sources:
            self.network.get_submodule(name).register_forward_hook(self._capture(name))
        self.dim = int(self._probe().shape[1])
        num_sizes = len(self.resolutions) + 1
        of_one_size = tuple(self._dims[name] for name in self.sources) or (self.dim // num_sizes,)
        self.part_dims = of_one_size * num_sizes  # that are joined, in order
        self.network.to(memory_format=torch.channels_last)  # this makes convolutions faster, on a CPU too

    def forward(self, images: Tensor) -> Tensor:
        parts = []
        for size in (*self.resolutions, None):
            seen = resized(images, size) if size else images
            features = self._features(seen)
            parts.append(mean_of_two(features, self._features(mirrored(seen))) if self.flip else features)
        return signed_power(torch.cat(parts, dim=1), self.power)  # (n, dim)

    def _features(self, images: Tensor) -> Tensor:
        penultimate: Tensor = self.network(images)
        if not self.sources:
            return penultimate.flatten(1)
        return torch.cat([self._captured.pop((get_ident(), name)) for name in self.sources], dim=1)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of everything that a feature depends on besides the image.

        Any change of architecture, features, transform or weights gives another fingerprint.
        """
        digest = hashlib.sha256()
        recipe: list[Any] = [self.architecture, self.features, self.transform.to_dict()]
        if self.library != "torchvision":
            recipe += [self.library, self.config]
        if self.power != 1:
            recipe.append({"power": self.power})
        if self.flip:
            recipe.append({"flip": True})
        if self.resolutions:
            recipe.append({"resolutions": self.resolutions})
        digest.update(json.dumps(recipe, sort_keys=True).encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def blocks(self) -> list[nn.ModuleList]:
        """Return the parts that can be frozen or trained one by one, from the input to the output.

        Every block has parameters. A normalisation layer belongs to the block that it follows.
        """
        blocks: list[nn.ModuleList] = []
        for part in _parts(self.network):
            if isinstance(part, nn.BatchNorm2d | nn.LayerNorm) and blocks:
                blocks[-1].append(part)
            else:
                blocks.append(nn.ModuleList([part]))
        return blocks

    def _smaller_than(self, size: int, resolutions: Sequence[int]) -> tuple[int, ...]:
        """Return the resolutions, or raise ValueError where they are not below the image size or not in order."""
        if list(resolutions) != sorted({own for own in resolutions if own < size}):
            raise ValueError(
                f"backbone.resolutions is {[*resolutions]}, expected sizes below that of the images, {size} px, from "
                "the smallest to the largest"
            )
        if resolutions and self.library == "transformers":
            raise ValueError(
                "backbone.resolutions is for networks of torchvision and timm: the graph of one of transformers has "
                "one size"
            )
        return tuple(resolutions)

    def _find_sources(self) -> tuple[str, ...]:
        if self.features == "penultimate":
            return ()
        if self.features == "pooled":
            return self._last_feature_map()
        known = dict(self.network.named_modules())
        for name in self.features:
            if not name or name not in known:
                parts = ", ".join(name for name, _ in self.network.named_children())
                raise ValueError(
                    f"backbone.features names {name!r}, which {self.architecture} lacks; its parts are {parts}"
                )
            if list(self.features).count(name) > 1:
                raise ValueError(f"backbone.features names {name!r} twice, expected each part once")
        return tuple(self.features)

    def _last_feature_map(self) -> tuple[str, ...]:
        """Return the name of the part that makes the last map; () if the network's output is that map's mean."""
        if self.library == "transformers":
            return ()
        if self.library == "timm":
            size = self.transform.crop_size
            return (networks_of("timm").last_map(self.network.eval(), torch.zeros(1, 3, size, size)),)
        layer = classification_layer(build_network_outline(self.architecture))
        top = layer.split(".")[0]
        is_transformer = isinstance(self.network, models.VisionTransformer)  # its last layer reads only the class token
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
            for handle in hooks:
                handle.remove()
        return (names[-1],)

    def keeps_channels_last(self, name: str) -> bool:
        """Return whether a part outputs its maps as (n, height, width, channels)."""
        if self.library == "torchvision":
            return self.architecture.startswith("swin") and name != "permute"
        return getattr(self.network, "output_fmt", None) == "NHWC"

    def order_of(self, name: str) -> dict[str, Any]:
        """Return how `mean_over_positions` finds the positions in a part's output."""
        return {"is_channels_last": self.keeps_channels_last(name), "num_prefix": self.num_prefix_tokens}

    def _capture(self, name: str) -> Any:
        order: dict[str, Any] = self.order_of(name)

        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
                raise ValueError(
                    f"backbone.features names {name!r}, whose output is not a feature map: name a part that contains it"
                )
            self._captured[get_ident(), name] = means = mean_over_positions(output, **order)
            self._dims[name] = means.shape[1]

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
            name = error.args[0][1]
            raise ValueError(
                f"backbone.features names {name!r}, which never runs by itself: name a part that contains it"
            ) from error
        except (RuntimeError, AssertionError) as error:
            sizes = " and ".join(map(str, (*self.resolutions, size)))
            raise ValueError(f"{self.architecture} cannot take images of {sizes} px ({one_line(error)})") from error
        finally:
            self.train(was_training)


def resized(images: Tensor, size: int) -> Tensor:
    """Return images (n, channels, size, size) with a smaller side in px; each px is a mean of those that it covers."""
    # torch has no such step for bfloat16
    smaller = F.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True)
    return smaller.to(images.dtype)


def mirrored(images: Tensor) -> Tensor:
    """Return images (n, channels, height, width) with left and right exchanged."""
    return images.flip(3)


def mean_of_two(features: Tensor, others: Tensor) -> Tensor:
    return (features + others) / 2


def signed_power(features: Tensor, power: float) -> Tensor:
    """Return x (|x| + SMALL)^(power - 1), whose slope is finite at 0: at most 10 for a power of 0.5."""
    return features if power == 1 else features * (features.abs() + SMALL) ** (power - 1)


def mean_over_positions(features: Tensor, *, is_channels_last: bool = False, num_prefix: int = 0) -> Tensor:
    """Return the mean over all positions, (n, channels).

    `features` are (n, channels, height, width), (n, height, width, channels), tokens (n, positions, channels), of which
    the first `num_prefix` are left out, or (n, channels), which stay as they are.
    """
    if features.ndim == 3:
        return features[:, num_prefix:].mean(dim=1)
    if features.ndim == 4:
        return features.flatten(1, 2).mean(dim=1) if is_channels_last else features.flatten(2).mean(dim=2)
    return features


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if type(child) in (nn.Sequential, nn.ModuleList) or type(child).__name__.endswith(("Stage", "Encoder")):
            yield from _parts(child)
        elif any(True for _ in child.parameters()):
            yield child
