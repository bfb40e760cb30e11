"""Pretrained weights, by name or from a file: load them into a backbone. No code in a file is run."""

import json
import logging
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torchvision import models

from tasks.images.transform import Decode, Transform
from tasks.machine.names import printable
from tasks.models.architecture import (
    build_network_outline,
    check_architecture,
    classification_layer,
    num_parameters,
    one_line,
    without_random_values,
    without_values,
)
from tasks.models.backbone import Backbone, Features
from tasks.models.encoder import Encoder
from tasks.models.libraries import networks_of
from tasks.models.options import BackboneOptions, Library
from tasks.models.tensor_checks import fill, seem_untrained
from tasks.models.weight_folder import check_pin, read_tensors, split_pin

logger = logging.getLogger("graftline")

GLOBAL = re.compile(r"GLOBAL (\S+)")  # in torch's message: the name that a pickle would import
MOST_COPIES = 16  # of the weights in a checkpoint: an optimizer has two or three, a moving average one
NUMBER_BYTES = 4
BYTES_AT_ONCE = 2**20
SPARE_BYTES = 2**28  # for a layer of many thousand classes, and for the rest of a checkpoint
BYTEARRAY = b"\nbytearray\n"  # a pickle names it so; torch lets it make any number of bytes out of one number
MOST_CROP, MOST_RESIZE = 1024, 2048  # px; a bundle takes no larger ones
RANDOM = "random"  # instead of a weights name: an untrained backbone, for training from scratch


def load_pretrained(options: BackboneOptions, *, modality: str) -> Backbone | Encoder:
    """Return the backbone that params.yaml names. Raises ValueError as `load_backbone` and `load_encoder` do."""
    if modality == "text":
        from tasks.models.encoder_files import load_encoder

        return load_encoder(options.weights, max_tokens=options.max_tokens, long=options.long)
    return load_backbone(
        architecture=options.architecture, weights=options.weights, library=options.library, features=options.features,
        image_size=options.image_size, decode=options.decode, power=options.power, flip=options.flip,
        resolutions=options.resolutions,
    )  # fmt: skip


def load_backbone(
    architecture: str,
    *,
    weights: str,
    library: Library = "torchvision",
    features: Features = "penultimate",
    image_size: int | None = None,
    decode: Decode = "full",
    power: float = 1.0,
    flip: bool = False,
    resolutions: Sequence[int] = (),
) -> Backbone:
    """Return a pretrained backbone.

    Args:
        architecture: the name of a classifier in its library.
        weights: the torchvision name of weights (downloaded unless cached; their hash is checked), a safetensors or
            state-dict file (loaded without running code), or "random". For the other libraries see their
            `find_pretrained`; a state-dict file is not read. `@sha256:…` behind it allows no other file.
        library: torchvision, timm or transformers.
        features, power, flip, resolutions: see `Backbone`.
        image_size: side of the square that the network sees, in px; None for the size in the weights' own transform.
        decode: see `Transform`.

    Raises:
        ValueError: the architecture or the weights are unknown, the weights are of another architecture or have another
            SHA-256, they are neither here nor can be downloaded, or the library is not installed.
    """
    weights, digest = split_pin(weights)
    build = partial(Backbone, architecture, features=features, power=power, flip=flip, resolutions=resolutions)
    if library != "torchvision":
        return _load_other(library, architecture, weights, digest, build=build, image_size=image_size, decode=decode)
    check_architecture(architecture)
    path = Path(weights)
    is_file = path.suffix in (".safetensors", ".pt", ".pth")
    if is_file:
        check_size(path, most_bytes=most_bytes(num_parameters(architecture)), architecture=architecture)
        check_pin(path, digest)
    header = _header(path) if is_file else {}
    if is_file or weights == RANDOM:
        preset = models.get_model_weights(architecture).DEFAULT.transforms()
    else:
        preset = _named_weights(architecture, weights).transforms()
    transform = _transform(preset, header, image_size, decode)
    if weights == RANDOM:
        return build(transform=transform).eval()
    backbone = without_random_values(partial(build, transform=transform))
    state = _read_state(path) if is_file else _download(architecture, weights, digest)
    load_weights(backbone, state, name=weights)
    return backbone.eval()


def _load_other(
    library: Library,
    architecture: str,
    weights: str,
    digest: str | None,
    *,
    build: Callable[..., Backbone],
    image_size: int | None,
    decode: Decode,
) -> Backbone:
    """Return a pretrained backbone of timm or transformers."""
    knows = networks_of(library)
    pretrained = knows.find_pretrained(architecture, None if weights == RANDOM else weights)
    file = pretrained.file
    header = _header(file) if file else {}
    transform = _resized(Transform.from_dict(header) if header else pretrained.transform, image_size, decode)
    if transform.crop_size > MOST_CROP or transform.resize_size > MOST_RESIZE:
        raise ValueError(
            f"weights {weights} take images of {transform.crop_size} px, resized to {transform.resize_size} px, "
            f"expected at most {MOST_CROP} and {MOST_RESIZE}: set backbone.image_size"
        )
    build = partial(build, transform=transform, library=library, config=pretrained.config)
    if file is None:
        return build().eval()
    outline = without_values(build).network.state_dict()
    numbers = sum(tensor.numel() for tensor in outline.values())
    check_size(file, most_bytes=most_bytes(numbers), architecture=architecture)
    if (size := file.stat().st_size) < numbers:
        raise ValueError(f"weights file {file} has {size:,} bytes, but {architecture} has {numbers:,} numbers")
    check_pin(file, digest)
    backbone = without_random_values(build)
    try:
        state = knows.own_tensors(architecture, backbone.network, pretrained.config, read_tensors(file))
    except Exception as error:  # a stranger's file can make the library raise almost any error
        raise ValueError(f"weights {weights} do not fit {architecture}: {one_line(error)}") from error
    advice = f"name the architecture that they were trained with instead of {architecture}"
    fill(backbone.network, state, name=f"weights {weights}", advice=advice, optional=("num_batches_tracked",))
    warn_if_untrained(state, name=weights)
    return backbone.eval()


def most_bytes(num_numbers: int) -> int:
    """Return how many bytes a checkpoint of a network with so many numbers may have."""
    return MOST_COPIES * NUMBER_BYTES * num_numbers + SPARE_BYTES


def check_size(path: Path, *, most_bytes: int, architecture: str) -> None:
    """Raise ValueError if the file is missing, or takes more memory than a checkpoint of the architecture can."""
    if not path.is_file():
        raise ValueError(f"weights file {path} is missing: put it there, or correct backbone.weights in params.yaml")
    if (size := path.stat().st_size) > most_bytes:
        raise ValueError(
            f"weights file {path} has {size:,} bytes, expected at most {most_bytes:,} for {architecture}: name the "
            "architecture that it was trained with, or save its state dict alone"
        )
    if path.suffix != ".safetensors":
        if zipfile.is_zipfile(path):
            check_archive(path)
        check_pickle(path)


def check_archive(path: Path) -> None:
    """Raise ValueError if an archive, which torch.save writes, takes more room in memory than on the disk."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except Exception as error:  # a stranger's file can make zipfile raise almost any error
        raise ValueError(f"weights file {path} is not a whole archive ({one_line(error)}): copy it again") from error
    # torch.save never packs, and parts that overlap count more than once
    is_packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
    if is_packed or sum(part.file_size for part in parts) > path.stat().st_size:
        raise ValueError(
            f"weights file {path} is packed, so a small file could fill the memory, and was not read: save it with "
            "torch.save, or as safetensors"
        )


def check_pickle(path: Path) -> None:
    """Raise ValueError if a pickle in the file makes bytes that the file does not hold: a line of it fills the memory.

    The bytes of an archive are not packed, so a pickle in it stands in the file as it is.
    """
    behind = b""
    with path.open("rb") as file:
        while part := file.read(BYTES_AT_ONCE):
            if BYTEARRAY in behind + part:
                raise ValueError(
                    f"weights file {path} makes bytes that it does not hold, so a small file could fill the memory, "
                    "and was not read: save a state dict alone"
                )
            behind = part[-len(BYTEARRAY) :]


def load_weights(backbone: Backbone, state: dict[str, Tensor], *, name: str) -> None:
    """Fill the backbone from a torchvision state dict.

    The classification layer (for any number of classes) and auxiliary classifiers are ignored.

    Raises ValueError if the other tensors do not fit.
    """
    layer = classification_layer(build_network_outline(backbone.architecture))
    extra = (f"{layer}.", "aux1.", "aux2.", "AuxLogits.")
    state = {modern_key(key): tensor for key, tensor in state.items() if not key.startswith(extra)}
    advice = f"name the architecture that they were trained with instead of {backbone.architecture}"
    fill(backbone.network, state, name=f"weights {name}", advice=advice, optional=("num_batches_tracked",))
    warn_if_untrained(state, name=name)


def warn_if_untrained(state: Mapping[str, Tensor], *, name: str) -> None:
    if seem_untrained(state):
        logger.warning(
            "warning: weights %s seem untrained: every running mean of their batch normalisation is 0. Name trained "
            "ones in backbone.weights",
            name,
        )


def modern_key(key: str) -> str:
    """Return today's name of a tensor: the published weights of DenseNet and ViT use older names of some parts."""
    key = re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key)
    return key.replace(".mlp.linear_1.", ".mlp.0.").replace(".mlp.linear_2.", ".mlp.3.")


def _named_weights(architecture: str, name: str) -> Any:
    known = models.get_model_weights(architecture)
    try:
        return known[name]
    except KeyError:
        raise ValueError(
            f"weights {name!r} are not known for {architecture}: torchvision has "
            f"{', '.join(entry.name for entry in known)}; the name of a file ends in .safetensors, .pt or .pth"
        ) from None


def _download(architecture: str, name: str, digest: str | None) -> dict[str, Tensor]:
    weights = _named_weights(architecture, name)
    place = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    advice = f"download {weights.url} on another machine and put it at {place}, or name a file in backbone.weights"
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, TimeoutError, ConnectionError) as error:
        raise ValueError(
            f"weights {architecture} {name} are not cached and cannot be downloaded ({error}): {advice}"
        ) from error
    except Exception as error:  # a torn file can make torch raise almost any error
        raise ValueError(
            f"weights {architecture} {name} at {place} are damaged ({_why_unread(error)}): remove them, then {advice}"
        ) from error
    check_pin(place, digest)
    return state


def _read_state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        except SafetensorError as error:
            raise ValueError(f"weights file {path} is not a whole safetensors file ({error}): copy it again") from error
    try:
        with warnings.catch_warnings():  # about tensors that are refused by name afterwards
            warnings.simplefilter("ignore")
            # mapped, so that only the tensors in use are read; the older format cannot be
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # a stranger's file can make torch raise almost any error
        raise ValueError(
            f"weights file {path} is not a plain state dict ({_why_unread(error)}): save one with torch.save"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"weights file {path} has no state dict, expected tensors by name: save model.state_dict()")
    return state


def _why_unread(error: Exception) -> str:
    """Return why torch read no state dict. Its own message advises to switch off the protection from foreign code."""
    if "weights_only" not in str(error):
        return one_line(error)
    named = GLOBAL.search(str(error))
    return f"it holds {printable(named[1])}, which is code" if named else "it is damaged, or holds more than tensors"


def _header(path: Path) -> dict[str, Any]:
    """Return the transform in a safetensors file's header (JSON under the key `transform`), or {} if there is none."""
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("transform", "")
    except SafetensorError:
        return {}  # _read_state reports the fault
    try:
        return Transform.from_dict(json.loads(text)).to_dict() if text else {}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"the header of weights file {path} has no valid transform ({one_line(error)}): save it again"
        ) from error


def _transform(preset: Any, header: dict[str, Any], image_size: int | None, decode: Decode) -> Transform:
    return _resized(Transform.from_dict(header) if header else Transform.from_preset(preset), image_size, decode)


def _resized(transform: Transform, image_size: int | None, decode: Decode) -> Transform:
    transform = replace(transform, decode=decode)
    return transform if image_size is None else replace(transform, resize_size=image_size, crop_size=image_size)
