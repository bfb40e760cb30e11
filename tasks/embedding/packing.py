"""A frozen text encoder made ready for one machine: windows of token ids in, vectors out, the same to the last bit.

Each pass computes the same number of tokens: windows end to end, and filler behind them. Attention and pooling run over
each window alone. So no vector depends on what is packed beside it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tasks.embedding.embedder import DTYPES, Plan
from tasks.machine.cores import compute_deterministically
from tasks.models.encoder import Encoder
from tasks.text.transform import Windows

TOKENS = {"cpu": 512, "cuda": 16384}  # of a pass; a pass on a processor stays in its caches


class TextEmbedder:
    """Maps the windows of n texts to vectors (n, dim) float32.

    On a CPU any number of threads may call it, one per core: call it inside `one_thread_each`.
    """

    def __init__(self, encoder: Encoder, plan: Plan) -> None:
        compute_deterministically()
        self.plan = plan
        self.architecture = encoder.architecture
        self.dim = encoder.dim
        self.transform = encoder.transform
        self.tokens = max(TOKENS[plan.device], encoder.transform.max_tokens)
        self.encoder = encoder.to(plan.device, DTYPES[plan.precision])
        self.filler = encoder.transform.prepare("")[0][0]

    @torch.inference_mode()
    def __call__(self, texts: Sequence[Windows]) -> Tensor:
        windows = [window for text in texts for window in text]
        vectors = torch.empty(len(windows), self.dim)
        if self.encoder.is_packable:
            for places in pack([len(window) for window in windows], self.tokens):
                vectors[places] = self._pass([windows[place] for place in places])
        else:
            for place, window in enumerate(windows):
                vectors[place] = self._alone(window)
        of_texts = torch.split(vectors, [len(text) for text in texts])
        return torch.stack([self._joined(part) for part in of_texts])

    def _pass(self, windows: list[list[int]]) -> Tensor:
        lengths = [len(window) for window in windows]
        rest = self.tokens - sum(lengths)
        # the filler is one more text of the pass, or several where it is longer than a text may be
        longest = self.transform.max_tokens
        fillers = [min(longest, rest - start) for start in range(0, rest, longest)]
        ids = [token for window in windows for token in window] + [self.filler] * rest
        packed = torch.tensor(ids, device=self.plan.device)
        vectors: Tensor = self.encoder(packed, lengths + fillers)
        return vectors[: len(windows)].cpu()

    def _alone(self, window: list[int]) -> Tensor:
        vectors: Tensor = self.encoder(torch.tensor(window, device=self.plan.device), [len(window)])
        return vectors[0].cpu()

    def _joined(self, vectors: Tensor) -> Tensor:
        """(num_windows, dim) of one text -> (dim,)."""
        if len(vectors) == 1:
            return vectors[0]
        joined = vectors.mean(dim=0)
        return torch.nn.functional.normalize(joined, dim=0) if self.encoder.is_normalised else joined


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
