"""Image encoders of Hugging Face's transformers: build one from its config.json, and read its weights and transform.

For a model of images and texts, such as CLIP or SigLIP, this is the image tower. No code of a stranger is run.

It is imported only where `backbone.library` is transformers, and transformers itself only inside its functions.
"""

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tasks.images.transform import Transform
from tasks.models.architecture import one_line
from tasks.models.encoder import check_sizes
from tasks.models.weight_folder import Pretrained, find_folder, is_triple, read_config, weights_in

ATTENTION = "graftline_images"  # the name of the attention function among those of transformers
MOST_PARTS = 256  # of a list or of names and values in a config.json, such as the widths of stages
# the encoders of images that are read: each gives a vector of one image alone, and loads no other network. Others of
# transformers hide parts of an image by chance, take films, or fetch a network of timm by its name
KINDS = (
    "beit", "clip_vision_model", "convnext", "convnextv2", "data2vec-vision", "deit", "dinov2",
    "dinov2_with_registers", "dinov3_convnext", "dinov3_vit", "efficientnet", "focalnet", "ijepa", "mobilenet_v2",
    "mobilevit", "regnet", "resnet", "siglip_vision_model", "swin", "swinv2", "vit", "vit_msn",
)  # fmt: skip
# fields of a config.json that do not describe the network: names of classes, its author, code and unused formats
NOT_OF_NETWORK = (
    "_name_or_path", "architectures", "auto_map", "dtype", "id2label", "label2id", "problem_type",
    "quantization_config", "torch_dtype", "transformers_version",
)  # fmt: skip
INTERPOLATIONS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by their number in Pillow
CONVNEXT_CROP = 224 / 256  # the share of the side that ConvNeXt keeps below LARGE px, where its file names none
LARGE = 384


def find_pretrained(architecture: str, place: str | None) -> Pretrained:
    """Return the parts of a pretrained image encoder: its config, its transform and the file of its weights.

    Args:
        architecture: the `model_type` of its config.json; of a model of images and texts, that of its image tower.
        place: a folder with config.json, preprocessor_config.json and model.safetensors, or its name on the hub.

    Raises ValueError where a file is missing, is of another architecture, or asks for an unsupported network.
    """
    if place is None:
        raise ValueError("backbone.weights is random, which transformers cannot be: name a folder with config.json")
    folder = find_folder(place)
    config = tower_config(read_config(folder / "config.json"))
    if config.get("model_type") != architecture:
        raise ValueError(
            f"{folder / 'config.json'} is of the architecture {str(config.get('model_type'))[:60]!r}, and "
            f"backbone.architecture is {architecture}: make them the same"
        )
    path = folder / "preprocessor_config.json"
    return Pretrained(
        config=config, transform=make_transform(read_config(path), name=str(path)), file=weights_in(folder)
    )


def tower_config(content: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a config.json that describes the network for images."""
    vision = content.get("vision_config")
    if isinstance(vision, dict):
        content = {"model_type": f"{content.get('model_type')}_vision_model"} | vision
    return {name: value for name, value in content.items() if name not in NOT_OF_NETWORK}


def build_network(architecture: str, config: dict[str, Any], *, image_size: int, is_pooled: bool) -> nn.Module:
    """Return the untrained network: normalised images (n, 3, size, size) in, features (n, dim) out.

    The features are what its class calls the pooled output; else the class token; with `is_pooled`, or where there is
    neither, the mean of the last map over its positions.

    Raises ValueError if transformers has no such network, or a number in its config is beyond bounds.
    """
    network_class, known = _class_and_config(config)
    tower = type("Tower", (_Tower, network_class), {})
    try:
        options = {"add_pooling_layer": False} if _has_dense_pooler(network_class, known) else {}
        network: nn.Module = tower(known, **options).eval()
    except Exception as error:  # a stranger's config can make transformers raise almost any error
        raise ValueError(f"config.json: transformers cannot build this {architecture} ({one_line(error)})") from error
    network.set_reading(image_size=image_size, is_pooled=is_pooled)  # type: ignore[operator]
    return network


class _Tower:
    """A network of transformers that takes images and returns features alone. It keeps the names of its parts."""

    def set_reading(self, *, image_size: int, is_pooled: bool) -> None:
        size = getattr(self.config, "image_size", image_size)  # type: ignore[attr-defined]
        is_other = size not in (image_size, [image_size, image_size], (image_size, image_size))
        can_resize = "interpolate_pos_encoding" in inspect.signature(super().forward).parameters  # type: ignore[misc]
        self.reading = {"interpolate_pos_encoding": True} if is_other and can_resize else {}
        self.is_pooled = is_pooled
        self.num_prefix_tokens = num_prefix_tokens(self)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        output: Any = super().forward(pixel_values=images, **self.reading)  # type: ignore[misc]
        pooled = None if self.is_pooled else getattr(output, "pooler_output", None)
        if pooled is not None:
            features: Tensor = pooled.flatten(1)
            return features
        hidden: Tensor = output.last_hidden_state  # (n, positions, dim) or (n, dim, height, width)
        if hidden.ndim == 4:
            return hidden.flatten(2).mean(dim=2)
        if self.num_prefix_tokens and not self.is_pooled:
            return hidden[:, 0]
        return hidden[:, self.num_prefix_tokens :].mean(dim=1)


def num_prefix_tokens(network: nn.Module) -> int:
    """Return how many tokens of a map stand before those of positions: a class token, registers."""
    lengths = {"cls_token": 1, "class_embedding": 1, "distillation_token": 1}
    total = 0
    for name, parameter in network.named_parameters():
        last = name.rpartition(".")[2]
        total += parameter.shape[1] if last == "register_tokens" else lengths.get(last, 0)
    return total


def own_tensors(
    architecture: str, network: nn.Module, config: dict[str, Any], state: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the tensors of a published file in the names of the network, as transformers itself reads them.

    Raises ValueError where the file lacks a tensor.
    """
    network_class, known = _class_and_config(config)
    options = {"add_pooling_layer": False} if _has_dense_pooler(network_class, known) else {}
    with _quiet():
        loaded, report = network_class.from_pretrained(
            None, config=known, state_dict=state, output_loading_info=True, **options
        )
    missing = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if missing:
        raise ValueError(f"they lack {missing[0]} ({len(missing)} such tensors)")
    return {name: tensor.detach() for name, tensor in loaded.state_dict().items()}


def make_transform(facts: dict[str, Any], *, name: str) -> Transform:
    """Return the evaluation transform that a preprocessor_config.json describes. Raises ValueError for any other."""
    number, is_normalised = facts.get("resample"), facts.get("do_normalize", True)
    mean, std = (facts.get("image_mean"), facts.get("image_std")) if is_normalised else ([0.0] * 3, [1.0] * 3)
    expected = {
        "do_resize": (facts.get("do_resize", True), "true"),
        "do_rescale": (facts.get("do_rescale", True), "true"),
        "do_pad": (not facts.get("do_pad"), "false"),
        "do_flip_channel_order": (not facts.get("do_flip_channel_order"), "false"),
        "rescale_factor": (_is_near(facts.get("rescale_factor", 1 / 255), 1 / 255), "1/255"),
        "resample": (isinstance(number, int) and 0 <= number < len(INTERPOLATIONS), "0 to 5, a filter of Pillow"),
        "image_mean": (is_triple(mean), "three numbers"),
        "image_std": (is_triple(std), "three numbers"),
        "size": (
            _sizes(facts) is not None,
            "shortest_edge, or a square, and a square crop_size",
        ),
    }
    for key, (is_met, what) in expected.items():
        if not is_met:
            raise ValueError(f"{name} has {key} {str(facts.get(key))[:60]}, expected {what}")
    resize, crop, squashes = _sizes(facts) or (0, 0, False)
    return Transform.from_dict(
        {
            "resize_size": resize, "crop_size": crop, "mean": mean, "std": std,
            "interpolation": INTERPOLATIONS[number or 0], "resize": "squash" if squashes else "shorter_side",
        }
    )  # fmt: skip


def _sizes(facts: dict[str, Any]) -> tuple[int, int, bool] | None:
    """Return the sizes (px) of resizing and of the crop, and whether both sides are resized; None where unknown."""
    kind = str(facts.get("image_processor_type", facts.get("feature_extractor_type", "")))
    crops = bool(facts.get("do_center_crop", "crop_size" in facts))
    size = facts.get("size")
    if isinstance(size, dict) and _is_size(size.get("shortest_edge")):
        side, squashes = size["shortest_edge"], False
    elif (square := _square(size)) is not None:  # a number alone meant the shorter side to CLIP and to ConvNeXt
        side, squashes = square, isinstance(size, dict) or not (crops or kind.startswith(("CLIP", "ConvN")))
    else:
        return None
    if "crop_pct" in facts or kind.startswith("ConvN"):
        share = facts.get("crop_pct") or CONVNEXT_CROP
        return (side, side, True) if side >= LARGE else (int(side / share), side, False)
    crop = _square(facts.get("crop_size", side)) if crops else side
    return None if crop is None else (side, crop, squashes)


def _square(size: Any) -> int | None:
    """Return the side of `224` or `{"height": 224, "width": 224}`."""
    if isinstance(size, dict):
        size = size.get("height") if size.get("height") == size.get("width") else None
    return size if _is_size(size) else None


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_near(value: Any, other: float) -> bool:
    return isinstance(value, int | float) and abs(value / other - 1) < 1e-3


def _class_and_config(config: dict[str, Any]) -> tuple[Any, Any]:
    """Return the class of the network and its config, without chance. Raises ValueError as `build_network` does."""
    from transformers import AttentionInterface, AutoConfig, AutoModel
    from transformers.masking_utils import AttentionMaskInterface

    check_lists(config)
    check_sizes(config)
    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, lambda *_, **__: None)
    if (kind := config["model_type"]) not in KINDS:
        raise ValueError(f"config.json has model_type {kind[:60]!r}, expected one of {', '.join(KINDS)}")
    try:
        known = AutoConfig.for_model(**config)
    except Exception as error:  # a stranger's config can make transformers raise almost any error
        raise ValueError(f"config.json: transformers builds no {kind!r} ({one_line(error)})") from error
    for name in vars(known):
        if ("dropout" in name or "drop_path" in name) and isinstance(getattr(known, name), float):
            setattr(known, name, 0.0)  # a vector must not depend on chance
    network_class: Any = AutoModel._model_mapping.get(type(known), None)
    if isinstance(network_class, tuple):
        network_class = network_class[0]
    known._attn_implementation = ATTENTION if network_class._supports_attention_backend else "eager"
    return network_class, known


def _has_dense_pooler(network_class: Any, known: Any) -> bool:
    """Return whether the pooled output is a further layer, which published classifiers lack; else it has no weights or
    normalises."""
    if "add_pooling_layer" not in inspect.signature(network_class.__init__).parameters:
        return False
    with torch.device("meta"):
        return any(name.startswith("pooler.dense") for name, _ in network_class(known).named_parameters())


def check_lists(config: dict[str, Any]) -> None:
    """Raise ValueError where a list in a stranger's config.json has too many parts."""
    remaining: list[tuple[str, Any]] = list(config.items())
    while remaining:
        name, value = remaining.pop()
        if isinstance(value, dict | list):
            if len(value) > MOST_PARTS:
                raise ValueError(f"config.json has {name[:60]} of {len(value)} parts, expected at most {MOST_PARTS}")
            remaining += value.items() if isinstance(value, dict) else [(name, part) for part in value]


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attend over all positions; queries, keys and values are (n, heads, T, width), the result (n, T, heads, width).

    `attention_mask` is added to the scores, such as the bias of relative positions. It has the signature of the
    attention functions of transformers.
    """
    attended = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, scale=options.get("scaling")
    )
    return attended.transpose(1, 2), None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' report of loaded weights out of the log: a missing weight is an error here."""
    from transformers.utils import logging as own

    own.disable_progress_bar()
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
