"""Answers samples of many callers together: each core takes the waiting samples, up to a minibatch, and computes them.

Nobody waits for a minibatch to fill: while all cores compute, samples gather by themselves.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch

from tasks.data.samples.samples import sample_id
from tasks.machine.cores import num_cores
from tasks.prediction.inputs import Input
from tasks.prediction.prediction_table import rows
from tasks.prediction.stream import answer_minibatch
from tasks.serving.counters import Counters
from tasks.serving.model_in_use import ModelInUse

logger = logging.getLogger("graftline")

Row = dict[str, Any]
NOT_COMPUTED = "not_computed"  # the reason of a sample where the computation failed

Log = Callable[[list[Row], ModelInUse], None]


class BusyError(Exception):
    """The error of a request that comes while too many samples wait."""


class Asked:
    """The samples of one request, and the rows of each that is answered."""

    def __init__(self, number: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._left = number
        self._rows: list[list[Row]] = [[]] * number
        self.done: asyncio.Future[list[list[Row]]] = self._loop.create_future()

    def put(self, place: int, own: list[Row]) -> None:
        """Take the rows of the sample at a place; a thread calls it."""
        with self._lock:
            self._rows[place] = own
            self._left -= 1
            is_last = self._left == 0
        if is_last:
            with suppress(RuntimeError):  # the loop ended before: nobody waits
                self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if not self.done.done():  # the caller may have left
            self.done.set_result(self._rows)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A sample that waits for its answer."""

    item: Input
    asked: Asked
    place: int


class Minibatches:
    """The samples that wait, and threads that answer them.

    Args:
        log: gets all rows, with their model, before they go out; it has to catch its own errors.
        top_k: the length of a row's `top_labels`.
        max_waiting: samples; more are refused.
        num_threads: None is one a core.
    """

    def __init__(
        self, model: ModelInUse, *, counters: Counters, log: Log, top_k: int, max_waiting: int,
        num_threads: int | None = None,
    ) -> None:  # fmt: skip
        self.model = model
        self._counters = counters
        self._log = log
        self._top_k = top_k
        self._max_waiting = max_waiting
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._num_at_work = 0
        self._is_held = False
        self._is_over = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(num_threads or num_cores())]
        for thread in self._threads:
            thread.start()

    async def answer(self, inputs: Sequence[Input]) -> list[list[Row]]:
        """Return the rows of each input, one a target.

        Raises:
            BusyError: too many samples wait.
        """
        asked = Asked(len(inputs))
        with self._changed:
            if len(self._waiting) + len(inputs) > self._max_waiting:
                raise BusyError
            self._waiting.extend(Waiting(item=item, asked=asked, place=n) for n, item in enumerate(inputs))
            self._changed.notify(len(self._threads))
        return await asked.done

    @property
    def num_waiting(self) -> int:
        """Return how many samples wait for a free core."""
        return len(self._waiting)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no thread compute inside the block. Samples wait."""
        with self._changed:
            self._is_held = True
            self._changed.wait_for(lambda: self._num_at_work == 0)
        try:
            yield
        finally:
            with self._changed:
                self._is_held = False
                self._changed.notify_all()

    def swap(self, model: ModelInUse) -> None:
        """Let another model answer from the next minibatch on."""
        with self._changed:
            self.model = model

    def close(self) -> None:
        """End the threads once no sample waits."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        torch.get_num_threads()  # see `one_thread_each`
        while self._work_once():
            pass

    def _work_once(self) -> bool:
        """Answer the waiting samples, or wait for some, and return whether more may come.

        While it waits, a thread has no model: one that is out of use leaves the memory.
        """
        if (taken := self._take()) is None:
            return False
        model, waiting = taken
        try:
            self._answer(waiting, model)
        finally:
            with self._changed:
                self._num_at_work -= 1
                self._changed.notify_all()
        return True

    def _take(self) -> tuple[ModelInUse, list[Waiting]] | None:
        """Return the next samples and the model that answers them; None where the service is over."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: not self._is_held and (self._waiting or self._is_over))
                if not self._waiting:
                    return None
                size = self.model.answerer.plan.minibatch_size
                taken = [self._waiting.popleft() for _ in range(min(size, len(self._waiting)))]
                if taken := [sample for sample in taken if not sample.asked.done.done()]:  # nobody waits for the others
                    self._num_at_work += 1
                    return self.model, taken

    def _answer(self, waiting: list[Waiting], model: ModelInUse) -> None:
        """Answer samples together. Where that fails, answer each alone: one sample spoils no other's answer."""
        try:
            answered = self._rows([sample.item for sample in waiting], model)
        except Exception as error:
            if len(waiting) > 1:
                for sample in waiting:
                    self._answer([sample], model)
                return
            logger.exception("a sample could not be computed")
            answered = self._logged(_failed(waiting[0].item, model, error), model)
        self._counters.minibatches.observe(len(waiting))
        for sample, sample_rows in zip(waiting, answered, strict=True):
            self._counters.samples.labels(sample_rows[0].get("reason") or "").inc()
            sample.asked.put(sample.place, sample_rows)

    def _rows(self, inputs: list[Input], model: ModelInUse) -> list[list[Row]]:
        answers = answer_minibatch(inputs, model.answerer, reading=model.reading)
        has_embeddings = "embedding" in model.schema.names
        of_all = rows(answers, model.answerer.targets, top_k=self._top_k, has_embeddings=has_embeddings)
        return self._logged(list(of_all), model)

    def _logged(self, of_all: list[Row], model: ModelInUse) -> list[list[Row]]:
        """Log the rows, and return those of each sample as they go out."""
        self._log(of_all, model)
        number = len(model.answerer.targets)
        for row in of_all:
            row.pop("embedding", None)
            row["model"] = model.sha256
        return [of_all[start : start + number] for start in range(0, len(of_all), number)]


def _failed(item: Input, model: ModelInUse, error: Exception) -> list[Row]:
    row = {
        "path": item.path, "sample_id": sample_id(item.content) if item.content else None, "reason": NOT_COMPUTED,
        "detail": f"{type(error).__name__}: see the log of the service",
    }  # fmt: skip
    return [{"target": target} | row for target in model.answerer.targets]
