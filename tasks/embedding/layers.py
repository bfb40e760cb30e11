"""Cut a text encoder in two between its layers: a frozen part, whose hidden states never change, and a trained part.

Each part runs the encoder's own forward pass, so that masks, positions and rotations are the encoder's. Layers that it
leaves out pass their inputs on.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import local
from typing import Any

import torch
from torch import Tensor, nn

from tasks.models.encoder import Encoder
from tasks.text.packed import Packed

_crossing = local()  # the hidden states that enter the layer behind the boundary, in this thread's pass


@dataclass(frozen=True, kw_only=True)
class Layers:
    """The layers of an encoder, which run one after the other.

    `name` is that of their list in the network. `behind` are the parts with parameters that run after the last layer,
    such as a normalisation. `are_tuples` is whether a layer returns a tuple, whose first part is the hidden states.
    """

    name: str
    layers: list[nn.Module]
    behind: list[nn.Module]
    are_tuples: bool

    def blocks(self) -> list[nn.ModuleList]:
        """Return the parts that can be frozen or trained one by one, from the input to the output."""
        return [
            nn.ModuleList([layer, *(self.behind if layer is self.layers[-1] else [])]) for layer in self.layers
        ]  # fmt: skip


def find_layers(encoder: Encoder) -> Layers | None:
    """Return the layers of the encoder: the longest list of parts that each run once, in order, on hidden states.

    Return None where there is no such list: ALBERT runs one layer many times.
    """
    runs: list[tuple[nn.Module, bool, bool]] = []  # the part, whether it takes hidden states, whether it gives a tuple

    def record(part: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        shape = tuple(getattr(inputs[0], "shape", ())) if inputs else ()
        runs.append((part, shape == (1, 2, encoder.dim) and inputs[0].is_floating_point(), isinstance(output, tuple)))

    parts = [part for part in encoder.network.modules() if part is not encoder.network]
    hooks = [part.register_forward_hook(record) for part in parts]
    try:
        with torch.no_grad():
            encoder.hidden(torch.zeros(2, dtype=torch.long, device=next(encoder.parameters()).device), [2])
    finally:
        for handle in hooks:
            handle.remove()
    best: Layers | None = None
    for name, listed in encoder.network.named_modules():
        if not isinstance(listed, nn.ModuleList) or len(listed) <= (len(best.layers) if best else 0):
            continue
        layers, members = list(listed), set(listed)
        own = [run for run in runs if run[0] in members]
        if [part for part, _, _ in own] == layers and all(takes_hidden for _, takes_hidden, _ in own):
            inside = set(layers[-1].modules())
            last = max(number for number, (part, _, _) in enumerate(runs) if part in inside)
            behind = [part for part, _, _ in runs[last + 1 :] if part._parameters]
            best = Layers(name=name, layers=layers, behind=behind, are_tuples=own[0][2])
    return best


class Skipped(nn.Module):
    """Stands for a layer that is left out: it passes the hidden states on, in the form in which the layer would."""

    def __init__(self, layer: nn.Module, *, is_tuple: bool) -> None:
        super().__init__()
        self.is_tuple = is_tuple
        for name, value in vars(layer).items():  # such as ModernBERT's attention_type, which its network asks for
            if not name.startswith("_") and name not in vars(self):
                setattr(self, name, value)

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Any:
        return (hidden, None) if self.is_tuple else hidden


class FrozenLayers(nn.Module):
    """Maps packed token ids (T,) to the hidden states that enter the layer `boundary`, a tensor (length, dim) a window.

    It has its own copy of the weights. A boundary behind the last layer gives the encoder's last hidden states.
    """

    def __init__(self, encoder: Encoder, boundary: int) -> None:
        super().__init__()
        layers = find_layers(encoder)
        assert layers, "`boundary_of` found them"
        self.is_whole = boundary == len(layers.layers)
        self.encoder = _part(encoder, layers, left_out=layers.layers[boundary:], boundary=boundary, memo={})

    def forward(self, ids: Tensor, lengths: Sequence[int]) -> Sequence[Tensor]:
        if self.is_whole:
            return self.encoder.hidden(ids, lengths)
        with _crossing_with(None):
            self.encoder.hidden(ids, lengths)
            return torch.split(_crossing.hidden[0], list(lengths))


class TrainedLayers(nn.Module):
    """Maps the hidden states that enter the layer `boundary`, packed, to the vectors (n, dim) of n texts.

    It shares the encoder's own weights: to train one is to train the other. Without a boundary it is the whole encoder
    and takes packed token ids.
    """

    def __init__(self, encoder: Encoder, boundary: int | None) -> None:
        super().__init__()
        layers = find_layers(encoder) if boundary is not None else None
        self.has_layers = boundary is None or boundary < len(layers.layers if layers else [])
        self.boundary = boundary
        if boundary is None or not layers:
            self.encoder = encoder
            return
        shared = {id(tensor): tensor for tensor in (*encoder.parameters(), *encoder.buffers())}
        self.encoder = _part(encoder, layers, left_out=layers.layers[:boundary], boundary=boundary, memo=shared)

    def forward(self, texts: Packed) -> Tensor:
        windows = texts.windows
        if not self.has_layers:
            hidden: Sequence[Tensor] = torch.split(texts.values, windows)
        elif self.boundary is None:
            hidden = self.encoder.hidden(texts.values, windows)
        else:
            hidden = [part for values, lengths in self._passes(texts) for part in self._behind(values, lengths)]
        vectors = self.encoder.pooled(hidden)
        if len(vectors) == len(texts.lengths):
            return vectors
        parts = torch.split(vectors, [len(lengths) for lengths in texts.lengths])
        return torch.stack([self.encoder.joined(part) for part in parts])

    def _passes(self, texts: Packed) -> Iterator[tuple[Tensor, list[int]]]:
        if self.encoder.is_packable:
            yield texts.values, texts.windows
        else:
            yield from ((part, [len(part)]) for part in torch.split(texts.values, texts.windows))

    def _behind(self, hidden: Tensor, lengths: list[int]) -> Sequence[Tensor]:
        """Return the last hidden states of windows whose hidden states (T, dim) enter the layer behind the boundary."""
        any_ids = torch.zeros(len(hidden), dtype=torch.long, device=hidden.device)
        with _crossing_with(hidden[None]):
            return self.encoder.hidden(any_ids, lengths)


def _part(
    encoder: Encoder, layers: Layers, *, left_out: Sequence[nn.Module], boundary: int, memo: dict[int, Any]
) -> Encoder:
    """Return a copy of the encoder without some layers, which takes or gives hidden states at the boundary.

    An object that `memo` holds by its id takes the place of its copy (see `copy.deepcopy`).
    """
    memo |= {id(layer): Skipped(layer, is_tuple=layers.are_tuples) for layer in left_out}
    memo[id(encoder.transform)] = encoder.transform
    part = copy.deepcopy(encoder, memo)
    copied = list(part.network.get_submodule(layers.name).children())
    if boundary < len(copied):
        copied[boundary].register_forward_pre_hook(_cross)
    return part


def _cross(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Let the given hidden states enter the layer; where none are given, remember those that enter it."""
    if _crossing.hidden is None:
        _crossing.hidden = inputs[0]
    return (_crossing.hidden, *inputs[1:])


@contextmanager
def _crossing_with(hidden: Tensor | None) -> Iterator[None]:
    _crossing.hidden = hidden
    try:
        yield
    finally:
        _crossing.hidden = None
