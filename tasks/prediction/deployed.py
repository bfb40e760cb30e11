"""A classifier in the form that is exported: plain tensors in, calibrated answers out, for each modality.

The outputs are what `Target.answers` returns, one tensor per target, for any n.
"""

import copy
import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tasks.embedding.fusion import trace
from tasks.models.classifier import Classifier
from tasks.models.encoder import Encoder
from tasks.models.words import Words
from tasks.targets.head import SparseRow
from tasks.text.transform import TextTransform
from tasks.text.words import WORD

# these lie beside an exported text classifier, the second where it reads words
TOKENIZER = "tokenizer.json"
VOCABULARY = "words.json"
SIZES = (1, 3)  # samples in the minibatches that are compared
LENGTHS = (5, 61)  # tokens of the texts that are compared
NUM_TERMS = 12  # of each of these texts

Axes = dict[int, torch.export.Dim]  # by number: those that are free


@dataclass(frozen=True, kw_only=True)
class Noise:
    """A minibatch of n samples on which an exported file is compared with the classifier."""

    inputs: tuple[Tensor, ...]  # of the file
    prepared: Any  # the same as the transform makes it
    words: Sequence[SparseRow] = ()  # n, where the classifier reads words


class Deployed(nn.Module):
    """The heads and temperatures of a classifier, behind the part that computes vectors for its modality."""

    inputs: ClassVar[tuple[str, ...]]  # their names

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.heads = copy.deepcopy(model.heads)
        self.targets = [(target, model.temperatures[name]) for name, target in model.targets.items()]
        self.trunk_of = [model.trunk_of[name] for name in model.targets]

    def logits(self, features: Sequence[Tensor]) -> list[Tensor]:
        """(n, dim) of each trunk -> (n, num_outputs) of each target, before the temperature."""
        rounded = [of_trunk.half().float() for of_trunk in features]  # like the vectors of the store
        return [head(rounded[number]) for head, number in zip(self.heads, self.trunk_of, strict=True)]

    def answers(self, logits: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """(n, num_outputs) of each target -> what `Target.answers` returns."""
        pairs = zip(logits, self.targets, strict=True)
        return tuple(target.deployed(own, temperature=temperature) for own, (target, temperature) in pairs)

    @abstractmethod
    def example(self) -> tuple[Tensor, ...]:
        """Return inputs of the right shapes."""

    @abstractmethod
    def free_axes(self) -> dict[str, Axes]:
        """Return the axes of each input that may have any length."""

    @abstractmethod
    def noise(self, generator: torch.Generator) -> Iterator[Noise]:
        """Yield minibatches on which the file is compared with the classifier."""

    @abstractmethod
    def inputs_of(self, prepared: Sequence[Any], words: Sequence[SparseRow] = ()) -> tuple[Tensor, ...]:
        """Return the inputs of samples (n) that the transform prepared, and their words where heads read any."""

    @abstractmethod
    def metadata(self) -> dict[str, Any]:
        """Return the facts that a program needs to make the inputs."""

    def files(self) -> dict[str, bytes]:
        """Return the files that have to lie beside the exported one, by name."""
        return {}


class DeployedImages(Deployed):
    """Takes `pixels` (n, 3, size, size) uint8, resized and cropped according to the transform."""

    inputs = ("pixels",)
    scale: Tensor
    shift: Tensor

    def __init__(self, model: Classifier) -> None:
        super().__init__(model)
        self.network, *more = (trace(trunk) for trunk in model.all_trunks())
        self.more: Any = nn.ModuleList(more)
        self.transform = model.backbone.transform
        mean, std = (torch.tensor(channels).view(1, 3, 1, 1) for channels in (self.transform.mean, self.transform.std))
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        images = pixels.float() * self.scale + self.shift
        return self.answers(self.logits([network(images) for network in (self.network, *self.more)]))

    def example(self) -> tuple[Tensor]:
        return (torch.zeros(2, 3, self.transform.crop_size, self.transform.crop_size, dtype=torch.uint8),)

    def free_axes(self) -> dict[str, Axes]:
        return {"pixels": {0: torch.export.Dim("n", min=1)}}

    def noise(self, generator: torch.Generator) -> Iterator[Noise]:
        side = self.transform.crop_size
        for n in SIZES:
            pixels = torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=generator)
            yield Noise(inputs=(pixels,), prepared=pixels)

    def inputs_of(self, prepared: Sequence[Tensor], words: Sequence[SparseRow] = ()) -> tuple[Tensor, ...]:
        return (torch.stack(list(prepared)),)

    def metadata(self) -> dict[str, Any]:
        return {"transform": self.transform.to_dict()}


class DeployedTexts(Deployed):
    """Takes `input_ids` and `attention_mask`, (n, length) int64: the token ids of a text a row, padded on the right.

    The mask is 1 where a token is and 0 where padding is. The tokenizer beside the file makes both. Attention is the
    network's own here, because other programs have no packed texts.

    Raises ValueError where the classifier averages the windows of a long text, which no row holds.
    """

    inputs: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask")

    def __init__(self, model: Classifier) -> None:
        super().__init__(model)
        encoder: Encoder = model.backbone
        self.transform: TextTransform = encoder.transform
        if self.transform.long == "windows":
            raise ValueError(
                "the classifier reads a long text in several windows, and an exported file reads one: train with "
                "backbone.long: head or head_tail"
            )
        self.pooling, self.is_normalised, self.first_position = (
            encoder.pooling, encoder.is_normalised, encoder.first_position
        )  # fmt: skip
        self.network, *more = (copy.deepcopy(trunk.network) for trunk in model.all_trunks())
        self.more: Any = nn.ModuleList(more)
        if encoder.is_packable:
            for network in (self.network, *more):
                network.set_attn_implementation("eager")
        self.padding = int(encoder.config.get("pad_token_id") or 0)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        return self.answers(self.logits(self.vectors(input_ids, attention_mask)))

    def vectors(self, input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
        """(n, length) both -> (n, dim) of each trunk."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)[None] + self.first_position
        hidden = [
            network(input_ids=input_ids, attention_mask=attention_mask, position_ids=positions)
            for network in (self.network, *self.more)
        ]
        return [self.pool(output.last_hidden_state.float(), attention_mask[..., None]) for output in hidden]

    def pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(n, length, dim) and (n, length, 1) -> (n, dim), as `Encoder.pool` does with each text alone."""
        if self.pooling == "mean":
            vectors = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        else:
            vectors = hidden[:, 0] if self.pooling == "cls" else hidden.masked_fill(mask == 0, -torch.inf).amax(dim=1)
        return nn.functional.normalize(vectors, dim=1) if self.is_normalised else vectors

    def example(self) -> tuple[Tensor, ...]:
        return self._rows([[self.padding] * 7, [self.padding] * 6])

    def free_axes(self) -> dict[str, Axes]:
        axes = {0: torch.export.Dim("n", min=1), 1: torch.export.Dim("length", min=2)}
        return {"input_ids": axes, "attention_mask": axes}

    def noise(self, generator: torch.Generator) -> Iterator[Noise]:
        short, long = (min(length, self.transform.max_tokens) for length in LENGTHS)
        for lengths in (*([length] * n for n in SIZES for length in (short, long)), [long, short, (short + long) // 2]):
            rows = [
                torch.randint(self.transform.vocab_size, (length,), generator=generator).tolist() for length in lengths
            ]
            yield Noise(inputs=self._rows(rows), prepared=[[row] for row in rows])

    def inputs_of(self, prepared: Sequence[Any], words: Sequence[SparseRow] = ()) -> tuple[Tensor, ...]:
        return self._rows([window for [window] in prepared])

    def metadata(self) -> dict[str, Any]:
        return {
            "transform": {"long": self.transform.long, "max_tokens": self.transform.max_tokens},
            "pooling": self.pooling,
            "tokenizer": _described(TOKENIZER, self.files()),
        }

    def files(self) -> dict[str, bytes]:
        return {TOKENIZER: self._tokenizer()}

    def _tokenizer(self) -> bytes:
        """Return the tokenizer.json that cuts and pads as this classifier reads, where the encoder's own does not."""
        truncation = {"direction": "Right", "max_length": self.transform.max_tokens, "strategy": "LongestFirst",
                      "stride": 0}  # fmt: skip
        padding = {
            "strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": self.padding,
            "pad_type_id": 0, "pad_token": self.transform.tokenizer.id_to_token(self.padding) or "",
        }  # fmt: skip
        parts = json.loads(self.transform.tokenizer_json)
        parts |= {"truncation": truncation if self.transform.long == "head" else None, "padding": padding}
        return json.dumps(parts, ensure_ascii=False).encode()

    def _rows(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[self.padding] * (longest - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        return ids, mask


class DeployedTextsAndWords(DeployedTexts):
    """Takes a third input, `words` (n, num_terms) float32: the terms of a text in the vocabulary beside the file.

    A row holds (1 + log(count)) * idf of each term that the text has, and is scaled to length 1.
    """

    inputs = ("input_ids", "attention_mask", "words")

    def __init__(self, model: Classifier) -> None:
        super().__init__(model)
        assert model.words is not None
        self.words: Words = copy.deepcopy(model.words)
        self.names = list(model.targets)
        self.num_terms = len(self.words.hashes)

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor, words: Tensor
    ) -> tuple[Tensor, ...]:
        joined, parts = self.logits(self.vectors(input_ids, attention_mask)), self.words
        for number, (name, factors) in enumerate(parts.factors.items()):
            weight, bias = parts.get_buffer(f"weight{number}"), parts.get_buffer(f"bias{number}")
            place = self.names.index(name)
            joined[place] = factors.of_vector * joined[place] + factors.of_words * (words @ weight.T + bias)
        return self.answers(joined)

    def example(self) -> tuple[Tensor, ...]:
        return (*super().example(), torch.zeros(2, self.num_terms))

    def free_axes(self) -> dict[str, Axes]:
        axes = super().free_axes()
        return axes | {"words": {0: axes["input_ids"][0]}}

    def noise(self, generator: torch.Generator) -> Iterator[Noise]:
        for noise in super().noise(generator):
            n = len(noise.prepared)
            words = torch.zeros(n, self.num_terms)
            for row in words:
                row[torch.randperm(self.num_terms, generator=generator)[:NUM_TERMS]] = 1 / NUM_TERMS**0.5
            sparse = [(row.nonzero()[:, 0].numpy(), row[row > 0].numpy()) for row in words]
            yield Noise(inputs=(*noise.inputs, words), prepared=noise.prepared, words=sparse)

    def inputs_of(self, prepared: Sequence[Any], words: Sequence[SparseRow] = ()) -> tuple[Tensor, ...]:
        dense = torch.zeros(len(prepared), self.num_terms)
        for row, (places, weights) in zip(dense, words, strict=True):
            row[torch.from_numpy(places).long()] = torch.from_numpy(weights).float()
        return (*super().inputs_of(prepared), dense)

    def metadata(self) -> dict[str, Any]:
        return super().metadata() | {"words": _described(VOCABULARY, self.files())}

    def files(self) -> dict[str, bytes]:
        """Return the tokenizer, and the vocabulary: the idf of each term, in order, by the hash of the term (hex)."""
        digests = self.words.hashes.numpy().astype("<i8").tobytes()
        names = [digests[start : start + 8].hex() for start in range(0, len(digests), 8)]
        idf = dict(zip(names, self.words.idf.tolist(), strict=True))
        return super().files() | {VOCABULARY: json.dumps({"word": WORD.pattern, "idf": idf}).encode()}


def deployed(model: Classifier) -> Deployed:
    """Return the classifier in the form that is exported. Raises ValueError as `DeployedTexts` does."""
    form: type[Deployed] = DeployedImages
    if isinstance(model.backbone, Encoder):
        form = DeployedTexts if model.words is None else DeployedTextsAndWords
    return form(model).requires_grad_(False).eval()


def _described(name: str, files: dict[str, bytes]) -> dict[str, str]:
    return {"file": name, "sha256": hashlib.sha256(files[name]).hexdigest()}
