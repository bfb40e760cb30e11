"""Spread work over the cores or the GPU of this machine: results come in the order of the items."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal, TypeVar

Device = Literal["cpu", "cuda"]

Item = TypeVar("Item")
Between = TypeVar("Between")
Result = TypeVar("Result")

AHEAD = 64  # items that are worked on or wait while the ones before them are used
MINIBATCHES_AHEAD = 2  # a core: a killed run loses the minibatches that wait to be stored


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(
    items: Iterable[Item], work: Callable[[Item], Result], *, ahead: int = AHEAD, num_threads: int | None = None
) -> Iterator[Result]:
    """Yield `work(item)` for every item, in the order of the items, from `num_threads` threads (None: one a core).

    At most `ahead` items are in progress or wait to be taken. A single item of a sequence needs no thread.
    """
    if isinstance(items, Sequence) and len(items) == 1:
        yield work(items[0])
        return
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


def compute_deterministically() -> None:
    """Let torch choose deterministic kernels in this process, and compute fp32 numbers in fp32.

    It has to be called before the first product on a GPU.
    """
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # as use_deterministic_algorithms(True), which loads the compiler too, and that takes a second
    torch.set_deterministic_debug_mode("error")
    # to fill memory before something is written there takes up to a tenth of the time
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.allow_tf32 = False  # TF32 would round fp32 numbers to 10 bits
    torch.backends.cuda.matmul.allow_tf32 = False


def to_device(tensor: Any, device: Any) -> Any:
    """Copy a tensor, or packed texts, to a device. A copy to a GPU is only begun, so that nothing waits for it."""
    if device.type != "cuda" or tensor.device.type == "cuda":
        return tensor.to(device)
    return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(device, non_blocking=True)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let each thread compute on one core with torch.

    Two threads with samples of their own are faster than two cores that share the work on one sample, and no bit
    depends on the number of cores. A thread of a pool must call `torch.get_num_threads()` once before it computes: only
    then does torch read this setting.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def core_pool() -> Iterator[Callable[[Callable[[Item], Result], Iterable[Item]], Iterator[Result]]]:
    """Yield a `map` over one lasting thread per core; torch uses one core in each."""
    import torch

    def ready() -> Any:
        return torch.get_num_threads()  # see `one_thread_each`

    with one_thread_each(), ThreadPoolExecutor(num_cores(), initializer=ready) as pool:
        yield pool.map


def in_turn(
    minibatches: Iterable[Item],
    decode: Callable[[Item], Between],
    compute: Callable[[Between], Result],
    *,
    device: str,
) -> Iterator[Result]:
    """Yield `compute(decode(minibatch))` for every minibatch, in order.

    On a processor every core takes minibatches of its own. On a GPU the cores decode, and the GPU computes one
    minibatch while the next is on its way to it.
    """
    import torch

    def decode_on_one_core(minibatch: Item) -> Between:
        torch.get_num_threads()  # see `one_thread_each`
        return decode(minibatch)

    ahead = MINIBATCHES_AHEAD * num_cores()
    with one_thread_each():
        if device == "cpu":
            yield from spread(minibatches, lambda minibatch: compute(decode_on_one_core(minibatch)), ahead=ahead)
        else:
            yield from one_behind(map(compute, spread(minibatches, decode_on_one_core, ahead=ahead)))


def one_behind(started: Iterable[Result]) -> Iterator[Result]:
    """Yield each minibatch once the GPU is done with it; by then the next one has been given to the GPU."""
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
