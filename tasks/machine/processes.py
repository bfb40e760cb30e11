"""Spread work that may kill its process: a decoder in C that crashes, runs out of memory or never ends."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TypeVar

from tasks.machine.cores import num_cores
from tasks.machine.lifeline import die_with_parent

CHUNK = 32  # items that a process gets at once
STDERR = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread_to_processes(
    items: Sequence[Item],
    work: Callable[[Item], Result],
    *,
    max_seconds: float,
    dead: Callable[[Item], Result],
    num_processes: int | None = None,
) -> Iterator[Result]:
    """Yield `work(item)` for every item, in order, from `num_processes` forked processes (None: one a core).

    Args:
        work: a function that pickle can name; so are its results.
        max_seconds: processor time that one item may take; after it the process is killed.
        dead: the result of an item that killed its process.
    """
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    work_on_chunk = partial(_work_on_chunk, work=work, max_seconds=max_seconds)
    num_done = 0
    while num_done < len(chunks):
        pool = _pool(num_processes or num_cores())
        try:
            for results in pool.map(work_on_chunk, chunks[num_done:]):
                yield from results
                num_done += 1
        except BrokenProcessPool:  # by this chunk or by a later one, which then breaks the next pool
            for item in chunks[num_done]:
                yield _work_alone(item, work, max_seconds=max_seconds, dead=dead)
            num_done += 1
        finally:
            pool.shutdown(cancel_futures=True)


def _work_alone(
    item: Item, work: Callable[[Item], Result], *, max_seconds: float, dead: Callable[[Item], Result]
) -> Result:
    with _pool(1) as pool:
        try:
            return pool.submit(_work_in_time, item, work, max_seconds).result()
        except BrokenProcessPool:
            return dead(item)


def _work_on_chunk(chunk: Sequence[Item], *, work: Callable[[Item], Result], max_seconds: float) -> list[Result]:
    return [_work_in_time(item, work, max_seconds) for item in chunk]


def _work_in_time(item: Item, work: Callable[[Item], Result], max_seconds: float) -> Result:
    """Return the result. A timer's signal kills the process: a decoder in C cannot be interrupted otherwise."""
    signal.setitimer(signal.ITIMER_VIRTUAL, max_seconds)
    result = work(item)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return result


def _pool(num_processes: int) -> ProcessPoolExecutor:
    # forked, so that starting costs milliseconds
    return ProcessPoolExecutor(num_processes, mp_context=multiprocessing.get_context("fork"), initializer=_prepare)


def _prepare() -> None:
    die_with_parent()
    # libtiff and others print each fault to the terminal; the ledger has it
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDERR)
