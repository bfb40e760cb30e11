"""A pretrained text encoder of Hugging Face's transformers: token ids in, vectors out.

Texts are packed end to end without padding, and attention runs over each text alone. So every pass has one shape, and
no bit of a vector depends on the texts beside it.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from threading import local
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tasks.machine.cores import to_device
from tasks.machine.extras import require
from tasks.models.architecture import one_line
from tasks.text.transform import TextTransform

Pooling = Literal["mean", "cls", "max"]
PACKED = "graftline_packed"  # the name of the attention function among those of transformers
MOST = {"num_hidden_layers": 64, "hidden_size": 8192, "vocab_size": 1_000_000, "max_position_embeddings": 131_072,
        "intermediate_size": 65_536, "num_attention_heads": 256}  # fmt: skip
MOST_TOKENS = 8192  # of a text: a pass has as many
MOST_PARTS = 256  # of any other number of parts of a network, such as layers or groups
MOST_SIZE = 2**20  # of any other number
# encoders of texts; other kinds of transformers read images or sound, are decoders, or open files and addresses that
# their config.json names
KINDS = (
    "albert", "bert", "camembert", "convbert", "data2vec-text", "deberta", "deberta-v2", "distilbert", "electra",
    "ernie", "eurobert", "gte", "ibert", "jina_embeddings_v3", "megatron-bert", "mobilebert", "modernbert", "mpnet",
    "nomic_bert", "nystromformer", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "squeezebert",
    "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip
# settings of a config.json that change no network: other outputs, or the same in pieces
OTHER_OUTPUTS = ("auto_map", "chunk_size_feed_forward", "output_attentions", "output_hidden_states", "return_dict")
PARTS = re.compile(r"layer|group|block|depth|expert")
_packed = local()  # the lengths of the texts of the pass that this thread computes


class Encoder(nn.Module):
    """Maps packed texts to vectors (n, dim) float32.

    Args:
        config: the encoder's config.json.
        transform: makes the token ids; it is kept with the encoder.
        pooling: of the last layer's vectors of a text: their mean, the first one, or their maximum.
        is_normalised: whether the vector is scaled to length 1.

    Raises:
        ValueError: transformers has no such encoder, or its sizes are beyond bounds.
    """

    def __init__(
        self, config: dict[str, Any], *, transform: TextTransform, pooling: Pooling, is_normalised: bool
    ) -> None:
        super().__init__()
        self.config = config
        self.transform = transform
        self.pooling = pooling
        self.is_normalised = is_normalised
        self.network, self.is_packable = build_network(config)
        check_limit(transform.max_tokens, config, self.network)
        self.architecture = str(config["model_type"])
        # a vector depends on the versions of these
        self.packages: tuple[str, ...] = ("numpy", "tokenizers", "torch", "transformers")
        self.dim = int(self.network.config.hidden_size)
        self.power = 1.0  # as of a `Backbone` whose features are not changed
        self.first_position = first_position(self.network)

    def forward(self, ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """Return the pooled vectors (len(lengths), dim) of packed texts.

        Args:
            ids: (T,) the token ids of the texts, one behind the other.
            lengths: of the texts; they sum to T.
        """
        return self.pooled(self.hidden(ids, lengths))

    def hidden(self, ids: Tensor, lengths: Sequence[int]) -> Sequence[Tensor]:
        """Return the last hidden states of packed texts, a tensor (length, dim) for each text."""
        if len(lengths) > 1 and not self.is_packable:
            return [self.hidden(part, [len(part)])[0] for part in torch.split(ids, list(lengths))]
        positions = torch.cat([torch.arange(length) for length in lengths]) + self.first_position
        positions = to_device(positions, ids.device)
        with attending_within(lengths, ids.device):
            hidden = self.network(input_ids=ids[None], position_ids=positions[None]).last_hidden_state[0]  # (T, dim)
        return torch.split(hidden, list(lengths))

    def pooled(self, hidden: Sequence[Tensor]) -> Tensor:
        """Return the vectors (n, dim) float32 of n texts, from a tensor (length, dim) for each text.

        A GPU pools all texts at once, each by itself.
        """
        if not hidden[0].is_cuda:
            return torch.stack([self.pool(part) for part in hidden])
        if self.pooling == "cls":
            vectors = torch.stack([part[0] for part in hidden]).float()
        else:
            lengths = to_device(torch.tensor([len(part) for part in hidden]), hidden[0].device)
            packed = torch.cat(list(hidden)).float()
            vectors = torch.segment_reduce(packed, self.pooling, lengths=lengths, axis=0, unsafe=True)
        return nn.functional.normalize(vectors, dim=1) if self.is_normalised else vectors

    def pool(self, hidden: Tensor) -> Tensor:
        """(length, dim) of one text -> (dim,) float32."""
        hidden = hidden.float()
        if self.pooling == "mean":
            vector = hidden.mean(dim=0)
        else:
            vector = hidden[0] if self.pooling == "cls" else hidden.amax(dim=0)
        return nn.functional.normalize(vector, dim=0) if self.is_normalised else vector

    def joined(self, vectors: Tensor) -> Tensor:
        """Return the vector (dim,) of a text whose windows have the vectors (num_windows, dim)."""
        if len(vectors) == 1:
            return vectors[0]
        joined = vectors.mean(dim=0)
        return nn.functional.normalize(joined, dim=0) if self.is_normalised else joined

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of everything that a vector depends on besides the text."""
        digest = hashlib.sha256()
        facts = [self.config, self.pooling, self.is_normalised, self.transform.to_dict()]
        digest.update(json.dumps(facts, sort_keys=True).encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
        return digest.hexdigest()


def build_network(config: dict[str, Any]) -> tuple[Any, bool]:
    """Return the untrained network, without dropout, and whether it takes packed texts.

    Raises:
        MissingExtraError: transformers is not installed.
        ValueError: its kind is not known to transformers, or a size is beyond MOST.
    """
    require("text")
    from transformers import AttentionInterface, AutoConfig, AutoModel
    from transformers.masking_utils import AttentionMaskInterface

    check_sizes(config)
    AttentionInterface.register(PACKED, attend_within_texts)
    AttentionMaskInterface.register(PACKED, lambda *_, **__: None)
    kind = str(config.get("model_type"))
    if kind not in KINDS:
        raise ValueError(f"config.json has model_type {kind[:60]!r}, expected an encoder of texts: {', '.join(KINDS)}")
    plain = {name: value for name, value in config.items() if name not in OTHER_OUTPUTS and "dropout_prob" not in name}
    try:
        known = AutoConfig.for_model(**plain)
    except Exception as error:  # a stranger's config can make transformers raise almost any error
        raise ValueError(f"config.json: transformers builds no {kind!r} ({one_line(error)})") from error
    for name in vars(known):
        if "dropout" in name and isinstance(getattr(known, name), float):
            setattr(known, name, 0.0)  # a vector must not depend on chance
    network_class: Any = AutoModel._model_mapping.get(type(known), None)
    if network_class is None:
        raise ValueError(f"config.json: transformers has no encoder for {kind!r}")
    if isinstance(network_class, tuple):
        network_class = network_class[0]
    check_sizes({name: getattr(known, name, 1) for name in MOST} | {"model_type": kind})  # under their usual names
    # MobileBERT joins each token with its neighbours, whatever text they belong to
    joins_tokens = bool(getattr(known, "trigram_input", False))
    is_packable = bool(getattr(network_class, "_supports_attention_backend", False)) and not joins_tokens
    options = {"add_pooling_layer": False} if "add_pooling_layer" in network_class.__init__.__code__.co_varnames else {}
    try:
        known._attn_implementation = PACKED if is_packable else "eager"
        network = network_class(known, **options).eval()
    except Exception as error:
        raise ValueError(f"config.json: transformers cannot build this {kind} ({one_line(error)})") from error
    if any(getattr(module, "is_causal", False) for module in network.modules()):
        raise ValueError(
            f"config.json: this {kind} is a decoder, whose tokens see only those before them: name an encoder"
        )
    return network, is_packable


def check_sizes(config: dict[str, Any]) -> None:
    """Raise ValueError where a size in a stranger's config.json is no whole number or beyond bounds."""
    for name, most in MOST.items():
        size = config.get(name, 1)
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= most:
            raise ValueError(f"config.json has {name} {str(size)[:40]}, expected a whole number from 1 to {most}")
    for name, number in _numbers(config):
        if abs(number) > (most := MOST.get(name) or (MOST_PARTS if PARTS.search(name) else MOST_SIZE)):
            raise ValueError(f"config.json has {name} {str(number)[:40]}, expected at most {most}")
    if not isinstance(config.get("model_type"), str):
        raise ValueError("config.json has no model_type, expected one such as bert")


def _numbers(config: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield the whole numbers of a config, at any depth, with the name that they stand under."""
    remaining: list[tuple[str, Any]] = list(config.items())
    while remaining:
        name, value = remaining.pop()
        if isinstance(value, dict):
            remaining += value.items()
        elif isinstance(value, list):
            remaining += [(name, part) for part in value]
        elif isinstance(value, int) and "theta" not in name:  # of rotary positions, which is large and no size
            yield name, value


def check_limit(max_tokens: Any, config: dict[str, Any], network: Any) -> None:
    """Raise ValueError where the encoder has no positions for so many tokens of a text."""
    most = most_tokens(config, network)
    if not isinstance(max_tokens, int) or not 8 <= max_tokens <= most:
        raise ValueError(f"max_tokens is {str(max_tokens)[:40]}, expected 8 to {most}, which the encoder can read")


def most_tokens(config: dict[str, Any], network: Any) -> int:
    """Return how many tokens of a text the encoder can read, special ones included."""
    return min(int(config.get("max_position_embeddings", 8192)) - first_position(network), MOST_TOKENS)


def first_position(network: Any) -> int:
    """Return the number of the first token's position: RoBERTa and its kin begin behind the padding's id."""
    embeddings = getattr(network, "embeddings", None)
    places = getattr(embeddings, "position_embeddings", None)
    padding = getattr(places, "padding_idx", None)
    return 0 if padding is None else int(padding) + 1


@contextmanager
def attending_within(lengths: Sequence[int], device: torch.device) -> Iterator[None]:
    """Let this thread's passes attend within texts of these lengths."""
    _packed.lengths = list(lengths)
    _packed.bounds = None
    if device.type == "cuda":
        _packed.bounds = to_device(torch.tensor([0, *accumulate(lengths)], dtype=torch.int32), device)
    try:
        yield
    finally:
        _packed.lengths = _packed.bounds = None


def attend_within_texts(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attend over each text alone; queries, keys and values are (1, heads, T, width), the result (1, T, heads, width).

    It has the signature of the attention functions of transformers.
    """
    lengths = getattr(_packed, "lengths", None) or [query.shape[2]]
    window = options.get("sliding_window")
    bounds = getattr(_packed, "bounds", None)
    is_plain = query.shape == key.shape and (window is None or max(lengths) <= window)
    if bounds is not None and is_plain:
        return _attend_at_once(query, key, value, bounds, longest=max(lengths), scale=options.get("scaling")), None
    of_texts = zip(*(torch.split(tensor, lengths, dim=2) for tensor in (query, key, value)), strict=True)
    parts = [
        nn.functional.scaled_dot_product_attention(
            q, k, v, scale=options.get("scaling"), attn_mask=_band(q.shape[2], window, q.device)
        )
        for q, k, v in of_texts
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _attend_at_once(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, *, longest: int, scale: float | None
) -> Tensor:
    """Attend over each text alone in one launch on a GPU; `bounds` (n + 1,) int32 has where the texts begin and end.

    It is the kernel that torch's attention takes for fp32 (Rabe & Staats 2021), which knows texts of any lengths. Its
    sums over a text do not depend on the others.
    """
    q, k, v = (tensor.transpose(1, 2) for tensor in (query, key, value))  # (1, T, heads, width)
    attended: Tensor = torch.ops.aten._efficient_attention_forward(
        q, k, v, None, bounds, bounds, longest, longest, 0.0, 0, q.requires_grad, scale=scale
    )[0]
    return attended


def _band(length: int, window: int | None, device: torch.device) -> Tensor | None:
    """Return the mask (length, length) of tokens less than `window` apart; None where that is all of them."""
    if window is None or length <= window:
        return None
    places = torch.arange(length, device=device)
    return (places[:, None] - places).abs() < window
