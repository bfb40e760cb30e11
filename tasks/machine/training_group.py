"""Train one model on several workers of a Ray cluster, by Ray Train, which starts all anew where one is lost.

Each worker runs the function that trains on one machine. It resumes by itself from the state that it keeps on disk.
"""

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.machine.cluster import Failed, Named, Place, joined, watched
from tasks.machine.extras import require

logger = logging.getLogger("graftline")

MOST_FAILURES = 10  # of workers and nodes in one training
LOOK_SECONDS = 1.0  # between two looks at the log of the first worker


def train_together(
    function: Callable[..., None],
    *,
    num_workers: int,
    address: str | None,
    num_gpus: int,
    shared: Path,
    **given: Any,
) -> None:
    """Let `num_workers` processes of a Ray cluster call `function(**given, peers=…)` at once, each on a core.

    The log lines of the first of them are logged here.

    Args:
        function: resumes where an earlier call was stopped.
        num_gpus: of each worker.
        shared: a folder that all nodes share, which is made for this training and removed at its end.

    Raises:
        ValueError: as for `tasks.machine.cluster.spread_to_cluster`; or workers were lost more than MOST_FAILURES
            times.
    """
    require("ray")
    shutil.rmtree(shared, ignore_errors=True)
    shared.mkdir(parents=True)
    work = _Work(work=Named.of(function, given), place=Place.here(), shared=shared.absolute())
    work.log.touch()
    try:
        with joined(address, num_cores=num_workers, num_gpus=num_workers * num_gpus) as head:
            for line in watched(lambda: _lines(work, num_workers=num_workers, num_gpus=num_gpus), head=head):
                logger.info(line)
    finally:
        shutil.rmtree(shared, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """The work of one worker."""

    work: Named
    place: Place
    shared: Path

    @property
    def log(self) -> Path:
        return self.shared / "log.txt"

    @property
    def error(self) -> Path:
        """Return the file of an error that a restart does not mend: it ends the training."""
        return self.shared / "error.txt"

    def __call__(self, given: dict[str, Any]) -> Failed | None:
        import ray.train
        import torch

        from tasks.machine.cores import compute_deterministically, num_cores
        from tasks.machine.peers import peers_here

        if self.error.exists():
            return Failed(message=self.error.read_text("utf-8"))
        peers = peers_here()
        try:
            self.place.enter()
            if peers.is_first:
                logger.addHandler(logging.FileHandler(self.log, encoding="utf-8"))
                logger.setLevel(logging.INFO)
            compute_deterministically()
            torch.set_num_threads(max(num_cores() // ray.train.get_context().get_local_world_size(), 1))
            self.work(peers=peers)
        except Exception as problem:
            failed = Failed.on_this_node(problem)
            if peers.num == 1:
                return failed
            if isinstance(problem, RuntimeError):
                raise  # the other workers do not answer: Ray starts all of them anew
            # the others wait for this worker. Ray ends them, and all find the error when they start anew
            beside = self.shared / f"{os.getpid()}.txt"
            beside.write_text(failed.message, "utf-8")
            beside.rename(self.error)
            raise
        return None


def _lines(work: _Work, *, num_workers: int, num_gpus: int) -> Iterator[str | Failed]:
    """Yield the log lines of the first worker, and at the end the error, if there is one."""
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    logging.getLogger("ray.train").setLevel(logging.CRITICAL)  # this process reports an error in one line
    trainer = TorchTrainer(
        work,
        train_loop_config={},
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if num_gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=num_workers, use_gpu=num_gpus > 0, placement_strategy="SPREAD" if num_workers > 1 else "PACK"
        ),
        run_config=RunConfig(
            name="train", storage_path=str(work.shared), failure_config=FailureConfig(max_failures=MOST_FAILURES),
            logging_config=LoggingConfig(log_level="CRITICAL"),
        ),
    )  # fmt: skip
    training: Future[Any] = Future()
    # no pool: Python waits for its threads at the end, and `fit` does not return where the head is lost
    threading.Thread(target=_fit, args=(trainer, training), daemon=True).start()
    with work.log.open(encoding="utf-8") as log:
        while not wait([training], timeout=LOOK_SECONDS).done:
            yield from map(str.rstrip, log)
        yield from map(str.rstrip, log)
        if failed := training.result().return_value:
            yield failed


def _fit(trainer: Any, training: "Future[Any]") -> None:
    try:
        training.set_result(trainer.fit())
    except BaseException as error:
        training.set_exception(error)
