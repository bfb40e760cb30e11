"""The processes that train one model together: each takes a part of every minibatch, and their gradients are added up.

All of them hold the same weights, to the bit: they begin alike, and after each step each has the same sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Peers:
    """A group of `num` processes, seen from number `rank`.

    Every method but `share` waits for the others. In a group of one, it returns at once.
    """

    rank: int
    num: int

    @property
    def is_first(self) -> bool:
        """Return whether this is the process that writes the results."""
        return self.rank == 0

    def share(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return this process's part of rows (n, ...), along their first axis; the parts follow each other."""
        part: NDArray[Any] = np.array_split(rows, self.num)[self.rank]
        return part

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type and device by the sums over all processes, in place."""
        if self.num > 1 and tensors:
            flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
            distributed.all_reduce(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in tensors])
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def sum(self, number: float) -> float:
        """Return the sum of a number over all processes."""
        if self.num == 1:
            return number
        total = torch.tensor(number, dtype=torch.float64)
        distributed.all_reduce(total)
        return float(total)

    def follow_first(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by those of the first process, in place."""
        for tensor in tensors if self.num > 1 else ():
            distributed.broadcast(tensor, src=0)

    def gather(self, value: T) -> list[T]:
        """Return the value of each process, in their order."""
        if self.num == 1:
            return [value]
        values: list[Any] = [None] * self.num
        distributed.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.gather(None)


ALONE = Peers(rank=0, num=1)


def peers_here() -> Peers:
    """Return the processes of the group that this one belongs to; ALONE where it belongs to none."""
    if not distributed.is_initialized():
        return ALONE
    return Peers(rank=distributed.get_rank(), num=distributed.get_world_size())
