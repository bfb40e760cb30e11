"""The processor's cores: how many there are, work for all of them whose results come in order, and one for each thread."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Literal, TypeVar

Device = Literal["cpu", "cuda"]

Item = TypeVar("Item")
Between = TypeVar("Between")
Result = TypeVar("Result")

AHEAD = 64  # items that are worked on or wait while the ones before them are used
MINIBATCHES_AHEAD = 2  # a core: a killed run loses the minibatches that wait to be stored


def num_cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    items: Iterable[Item], work: Callable[[Item], Result], *, ahead: int = AHEAD, num_threads: int | None = None
) -> Iterator[Result]:
    """`work` of each item, done by `num_threads` (None: a thread a core), given back in the order of the items; at most `ahead`
    of them are being worked on or wait to be taken."""
    waiting: list[Future[Result]] = []
    remaining = iter(items)
    with ThreadPoolExecutor(num_threads or num_cores()) as pool:
        waiting.extend(pool.submit(work, item) for item in islice(remaining, ahead))
        try:
            while waiting:
                yield waiting.pop(0).result()
                waiting.extend(pool.submit(work, item) for item in islice(remaining, 1))
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let each thread compute on one core with torch: two of them, each with samples of its own, are faster than two cores
    that share the work on one, and no bit depends on how many cores there are. A thread of a pool must ask for
    `torch.get_num_threads()` once before it computes: torch looks then at what was set here."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_turn(
    minibatches: Iterable[Item],
    decode: Callable[[Item], Between],
    compute: Callable[[Between], Result],
    *,
    device: Device,
) -> Iterator[Result]:
    """What is computed of each minibatch, in order, on every core or on the GPU."""
    ahead = MINIBATCHES_AHEAD * num_cores()
    with one_thread_each():
        if device == "cpu":
            yield from in_order(minibatches, lambda each: compute(decode(each)), ahead=ahead)
        else:
            yield from one_behind(map(compute, in_order(minibatches, decode, ahead=ahead)))


def one_behind(started: Iterable[Result]) -> Iterator[Result]:
    """Each minibatch once the GPU is done with it, by when the next has been given to it."""
    import torch

    before: tuple[Result, torch.cuda.Event] | None = None
    for result in started:
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()
        if before:
            before[1].synchronize()
            yield before[0]
        before = result, done
    if before:
        before[1].synchronize()
        yield before[0]
