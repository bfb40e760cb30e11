"""A frozen text encoder made ready for one machine: windows of token ids in, vectors out, the same to the last bit.

Each pass computes the same number of tokens: windows end to end, and filler behind them. Attention and pooling run over
each window alone. So no vector depends on the windows packed beside it.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tasks.embedding.embedder import DTYPES, Plan
from tasks.embedding.fused_steps import FusedLinear
from tasks.embedding.layers import FrozenLayers
from tasks.machine.cores import compute_deterministically, one_thread_each, to_device
from tasks.models.encoder import Encoder
from tasks.text.packed import PAGE, to_pages
from tasks.text.transform import TextTransform, Windows

TOKENS = {"cpu": 512, "cuda": 16384}  # of a pass; a pass on a processor stays in its caches


class TextEmbedder:
    """Maps the windows of n texts to vectors (n, dim) float32, on the device of the plan.

    On a CPU any number of threads may call it, one per core: call it inside `one_thread_each`. On a GPU the vectors are
    still being computed when the call returns.
    """

    def __init__(self, encoder: Encoder, plan: Plan) -> None:
        self.plan = plan
        self.architecture = encoder.architecture
        self.packages = encoder.packages
        self.dim = encoder.dim
        self.transform = encoder.transform
        self.encoder = _copy_of(encoder, plan)
        self.passes = Passes(self.encoder, plan, transform=encoder.transform, is_packable=encoder.is_packable)

    def stack(self, prepared: Sequence[Windows]) -> Sequence[Windows]:
        """Return the windows of n texts as they are."""
        return self.transform.stack(prepared)

    def __call__(self, texts: Sequence[Windows]) -> Tensor:
        windows = self.passes([window for text in texts for window in text])
        vectors = torch.stack([vector.float() for vector in windows])
        if len(windows) == len(texts):
            return vectors
        of_texts = torch.split(vectors, [len(text) for text in texts])
        return torch.stack([self.encoder.joined(part) for part in of_texts])


class HiddenStates:
    """Maps the windows of n texts to pages (num_pages, `dim`) of the hidden states that enter the layer `boundary`.

    The pages of a text lie one behind the other, see `tasks.text.packed`. Threads may call it as a TextEmbedder.
    """

    def __init__(self, encoder: Encoder, plan: Plan, *, boundary: int) -> None:
        self.plan = plan
        self.architecture = encoder.architecture
        self.packages = encoder.packages
        self.dim = PAGE * encoder.dim
        self.transform = encoder.transform
        frozen = FrozenLayers(encoder, boundary)
        self.passes = Passes(frozen, plan, transform=encoder.transform, is_packable=encoder.is_packable)

    def stack(self, prepared: Sequence[Windows]) -> Sequence[Windows]:
        """Return the windows of n texts as they are."""
        return self.transform.stack(prepared)

    def __call__(self, texts: Sequence[Windows]) -> Tensor:
        windows = iter(self.passes([window for text in texts for window in text]))
        return torch.cat([to_pages(torch.cat([next(windows) for _ in text])) for text in texts])


class Passes:
    """Computes windows in passes of one shape, so that no bit depends on the windows that share a pass.

    `network` maps packed token ids (T,) and the lengths of the windows to a tensor a window. It moves to the device and
    the precision of the plan; on a processor its linear layers become steps of oneDNN. A network that is not packable
    takes one window at a time.
    """

    def __init__(self, network: nn.Module, plan: Plan, *, transform: TextTransform, is_packable: bool) -> None:
        compute_deterministically()
        self.plan = plan
        self.is_packable = is_packable
        self.longest = transform.max_tokens
        self.tokens = max(TOKENS[plan.device], self.longest)
        self.filler = transform.filler
        self.network = network.to(plan.device, DTYPES[plan.precision])
        has_onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
        if is_packable and plan.device == "cpu" and has_onednn:
            fuse_linear(network, num_rows=self.tokens)

    @torch.inference_mode()
    def __call__(self, windows: Sequence[list[int]]) -> list[Tensor]:
        """Return the network's output for each window: its hidden states on the processor, or its vector."""
        if not self.is_packable:
            return [self._pass([window], filler=0)[0] for window in windows]
        results: dict[int, Tensor] = {}
        for places in pack([len(window) for window in windows], self.tokens):
            lengths = sum(len(windows[place]) for place in places)
            made = self._pass([windows[place] for place in places], filler=self.tokens - lengths)
            results |= dict(zip(places, made, strict=True))
        return [results[place] for place in range(len(windows))]

    def _pass(self, windows: list[list[int]], *, filler: int) -> list[Tensor]:
        # the filler is one more text of the pass, or several where it is longer than a text may be
        fillers = [min(self.longest, filler - start) for start in range(0, filler, self.longest)]
        ids = [token for window in windows for token in window] + [self.filler] * filler
        packed = to_device(torch.tensor(ids), torch.device(self.plan.device))
        made = self.network(packed, [len(window) for window in windows] + fillers)[: len(windows)]
        if isinstance(made, Tensor) or self.plan.device == "cpu":
            return list(made)
        # one copy is faster than one a window
        return list(torch.split(torch.cat(list(made)).cpu(), [len(window) for window in windows]))


def fuse_linear(network: nn.Module, *, num_rows: int) -> None:
    """Replace the linear layers of a network, in place, by steps of oneDNN for inputs of so many rows.

    Their weights are reordered once, and not in every pass. A layer with two names in the network is replaced under the
    first.
    """
    with one_thread_each():  # the order of the weights may depend on the number of threads
        for name, part in list(network.named_modules()):
            if type(part) is nn.Linear:
                network.set_submodule(name, FusedLinear(part.weight, part.bias, num_rows=num_rows))


def _copy_of(encoder: Encoder, plan: Plan) -> Encoder:
    """Return a copy of the encoder on the plan's device and in its precision.

    It shares the weights that need no change.
    """
    device, dtype = plan.device, DTYPES[plan.precision]
    memo: dict[int, Any] = {id(encoder.transform): encoder.transform}
    for weight in encoder.parameters():
        memo[id(weight)] = nn.Parameter(weight.detach().to(device, dtype), requires_grad=False)
    return copy.deepcopy(encoder, memo)


def pack(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Return the places of the windows of each pass, so that the lengths of a pass sum to at most `size`.

    Windows are placed by best fit, the longest first (Johnson 1974): the passes of ordinary texts are 99 % full.
    """
    passes: list[list[int]] = []
    room: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        fitting = [number for number, free in enumerate(room) if free >= lengths[place]]
        if fitting:
            best = min(fitting, key=lambda number: room[number])
            passes[best].append(place)
            room[best] -= lengths[place]
        else:
            passes.append([place])
            room.append(size - lengths[place])
    return passes
