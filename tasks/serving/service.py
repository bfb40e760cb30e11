"""A model that answers until it is stopped: its minibatches, its log, and the watch over its bundle."""

import logging
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.machine.names import on_one_line
from tasks.prediction.answer_log import AnswerLog
from tasks.serving.counters import Counters
from tasks.serving.minibatches import Minibatches, Row
from tasks.serving.model_in_use import ModelInUse, ModelOptions, load, state_of

logger = logging.getLogger("graftline")

LOOK_SECONDS = 1.0  # between two looks at the place of the bundle
AGAIN_SECONDS = 30.0  # until a bundle that could not be used is tried again: memory may have been short, for example


class Service:
    """Answers with the bundle in a place. Where another whole bundle takes that place, it answers from then on.

    If the new bundle is torn or the place is empty, the old model keeps answering, and `health` reports the problem.

    Args:
        top_k: the length of a row's `top_labels`.
        max_waiting: samples that wait for a free core; more are refused.
        num_threads: that compute; None is one a core.

    Raises:
        ValueError: the bundle cannot be used.
    """

    def __init__(
        self, bundle: Path, options: ModelOptions, *, log: AnswerLog | None = None, top_k: int = 5,
        max_waiting: int = 4096, num_threads: int | None = None,
    ) -> None:  # fmt: skip
        self.bundle = bundle
        self.counters = Counters()
        self._options = options
        self._log = log
        self._write_problem = ""  # of the last rows of the log
        self._turn_problem = ""  # of the last file of the log
        self._problem = ""  # of the bundle in the place
        self._num_swaps = 0
        self._refused_at = 0.0
        model = load(bundle, options)
        self._seen = model.state
        self._since = time.monotonic()
        self.minibatches = Minibatches(
            model, counters=self.counters, log=self._write, top_k=top_k, max_waiting=max_waiting,
            num_threads=num_threads,
        )  # fmt: skip
        self.counters.take_model(model.sha256)
        self.counters.waiting.set_function(lambda: self.minibatches.num_waiting)
        self._is_over = threading.Event()
        self._watch = threading.Thread(target=self._look_again_and_again, daemon=True)
        self._watch.start()

    @property
    def model(self) -> ModelInUse:
        """Return the model that answers now."""
        return self.minibatches.model

    @property
    def status(self) -> str:
        """Return ok, or degraded where it answers and something needs to be mended."""
        return "degraded" if self._problem or self._log_problem else "ok"

    @property
    def _log_problem(self) -> str:
        return self._write_problem or self._turn_problem

    def health(self) -> dict[str, Any]:
        """Return the health of the service, for a supervisor."""
        answerer = self.model.answerer
        return {
            "status": self.status,
            "model": self.model.sha256,
            "modality": answerer.transform.modality,
            "targets": {name: list(target.names) for name, target in answerer.targets.items()},
            "domain": next(iter(answerer.adapted.values()), None),
            "seconds_in_use": round(time.monotonic() - self._since, 1),
            "swaps": self._num_swaps,
            "waiting_samples": self.minibatches.num_waiting,
            "bundle_problem": self._problem or None,
            "log_problem": self._log_problem or None,
        }

    def metrics(self) -> bytes:
        """Return the counters in the text format of Prometheus."""
        return self.counters.text()

    def close(self) -> None:
        """Answer the waiting samples, end the log, and stop."""
        self._is_over.set()
        self._watch.join()
        self.minibatches.close()
        self._turn(is_over=True)

    def look(self) -> None:
        """Take the bundle in the place if it is another one and can be used."""
        state = state_of(self.bundle)
        is_due = self._problem and time.monotonic() - self._refused_at >= AGAIN_SECONDS
        if state == self._seen and not is_due:
            return
        try:
            model = load(self.bundle, self._options, before=self.model, alone=self._alone)
        except Exception as error:  # the old model answers, whatever is wrong with the bundle
            self._refuse(error)
            # a place that is filled at this moment has another state at the next look
            self._seen = state
            return
        self.minibatches.swap(model)
        self._seen, self._problem, self._since = model.state, "", time.monotonic()
        self._num_swaps += 1
        self.counters.swaps.inc()
        self.counters.take_model(model.sha256)
        logger.info("the model %s answers from now on", model.sha256[:12])

    def _alone(self) -> AbstractContextManager[None]:
        return self.minibatches.held()

    def _refuse(self, error: Exception) -> None:
        self._problem, self._refused_at = in_a_line(error), time.monotonic()
        self.counters.refused.inc()
        self.counters.is_current.set(0)
        logger.warning("the model %s stays in use: %s", self.model.sha256[:12], self._problem)

    def _look_again_and_again(self) -> None:
        while not self._is_over.wait(LOOK_SECONDS):
            self.look()
            self._turn()

    def _turn(self, *, is_over: bool = False) -> None:
        if self._log is None:
            return
        try:
            self._log.turn(is_over=is_over)
            self._turn_problem = ""
        except (OSError, pa.ArrowException) as error:
            if not self._turn_problem:
                logger.error("a file of the log cannot be written, and is tried again: %s", error)
            self._turn_problem = in_a_line(error)

    def _write(self, rows: list[Row], model: ModelInUse) -> None:
        """Log rows. Where that fails, answers go out all the same, and `health` reports it."""
        if self._log is None:
            return
        try:
            self._log.add(rows, model.schema, model=model.sha256)
            self.counters.logged.inc(len(rows))
            self._write_problem = ""
        except Exception as error:
            self.counters.not_logged.inc(len(rows))
            if not self._write_problem:
                logger.error("answers cannot be logged: %s", error)
            self._write_problem = in_a_line(error)


def in_a_line(error: Exception) -> str:
    """Return an error as `health` shows it."""
    return on_one_line(" ".join(str(error).split()) or type(error).__name__)[:500]
