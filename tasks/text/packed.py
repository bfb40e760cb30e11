"""The texts of a minibatch, packed end to end without padding, and their pages in a store."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor

from tasks.text.transform import Windows

PAGE = 32  # tokens; a store takes values of one size, and most texts fill few pages

Lengths = tuple[int, ...]  # of the windows of a text, in tokens


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Texts whose windows lie one behind the other. It has those methods of a tensor that a training needs.

    `values` are token ids (T,) or hidden states (T, dim); `lengths` has the lengths of the windows of each text, and
    they sum to T.
    """

    values: Tensor
    lengths: list[Lengths]

    @classmethod
    def of_ids(cls, texts: Sequence[Windows]) -> "Packed":
        """Pack the token ids of texts."""
        ids = [token for text in texts for window in text for token in window]
        return cls(values=torch.tensor(ids), lengths=[tuple(map(len, text)) for text in texts])

    @classmethod
    def of_pages(cls, pages: Tensor, lengths: list[Lengths]) -> "Packed":
        """Pack hidden states that `to_pages` cut: pages (num_pages, PAGE x dim) of texts, one behind the other."""
        tokens = pages.view(len(pages) * PAGE, -1)
        parts, start = [], 0
        for text in lengths:
            parts.append(tokens[start : start + sum(text)])
            start += PAGE * num_pages(text)
        return cls(values=torch.cat(parts), lengths=lengths)

    @property
    def windows(self) -> list[int]:
        """Return the lengths of the windows of all texts."""
        return list(chain(*self.lengths))

    @property
    def device(self) -> torch.device:
        return self.values.device

    def is_pinned(self) -> bool:
        return self.values.is_pinned()

    def pin_memory(self) -> "Packed":
        return replace(self, values=self.values.pin_memory())

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Packed":
        return replace(self, values=self.values.to(device, non_blocking=non_blocking))

    def split(self, size: int) -> list["Packed"]:
        """Return the texts in parts of `size`, the last one smaller."""
        groups = [self.lengths[start : start + size] for start in range(0, len(self.lengths), size)]
        parts = torch.split(self.values, [sum(map(sum, group)) for group in groups])
        return [Packed(values=part, lengths=group) for part, group in zip(parts, groups, strict=True)]


def num_pages(lengths: Lengths) -> int:
    """Return how many pages a text with windows of these lengths fills."""
    return max(-(-sum(lengths) // PAGE), 1)


def to_pages(hidden: Tensor) -> Tensor:
    """Cut the hidden states (T, dim) of a text into pages (num_pages, PAGE x dim); zeros fill the last one."""
    pages = hidden.new_zeros(num_pages((len(hidden),)) * PAGE, hidden.shape[1])
    pages[: len(hidden)] = hidden
    return pages.view(-1, PAGE * hidden.shape[1])
