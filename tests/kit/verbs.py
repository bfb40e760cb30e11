"""Run a verb as `python -m tasks.VERB` does: in a process of its own, or in a fork of the tests' process.

A fork need not repeat the imports.
"""

import gc
import importlib
import logging
import multiprocessing
import os
import resource
import runpy
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal, NoReturn

import torch

from tasks.machine.sources import digest
from tests.kit.programs import SECONDS, run_module, status_of

ROOT = Path(__file__).parents[2]
TRAINING = ("train_head", "finetune")  # the verbs that ask torch for gradients
QUIET = {
    "PYTHONPATH": str(ROOT),
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a verb ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The one line that the user reads; asserts that there is one, the last, and no traceback."""
        lines = self.stderr.splitlines()
        assert self.status == 1, self.stderr
        assert [line for line in lines if line.startswith("error: ")] == lines[-1:], self.stderr
        assert "Traceback" not in self.stderr, self.stderr
        return lines[-1].removeprefix("error: ")


def run_verb(
    verb: str,
    arguments: list[str],
    *,
    folder: Path,
    environment: dict[str, str] | None = None,
    max_file_bytes: int | None = None,
    max_more_bytes: int | None = None,
    fresh: bool = False,
) -> Finished:
    """Run `python -m tasks.VERB ARGUMENTS` in a folder; a fork runs it unless it has to be a `fresh` interpreter.

    Args:
        environment: added to this process's own.
        max_file_bytes: the disk looks full after so many bytes of a file.
        max_more_bytes: of memory that the verb, and each process that it starts, may take beyond what a fork has.
    """
    environment = QUIET | (environment or {})

    def limit() -> None:
        if max_file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
        if max_more_bytes is not None:
            pages = int(Path("/proc/self/statm").read_text("utf-8").split()[0])
            most = pages * resource.getpagesize() + max_more_bytes
            resource.setrlimit(resource.RLIMIT_AS, (most, most))

    if fresh or not _can_fork(verb):
        settings = {"cwd": folder, "env": os.environ | environment, "preexec_fn": limit}
        done = run_module(f"tasks.{verb}", *arguments, status=None, **settings)
        return Finished(status=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def work() -> None:
        limit()
        _run_here(verb, arguments, folder, environment)

    return run_in_fork(work)


@contextmanager
def running_verb(verb: str, arguments: list[str], *, folder: Path) -> Iterator[BaseProcess]:
    """A process that runs `python -m tasks.VERB ARGUMENTS` in a folder until the block ends, and is killed then."""
    how = "fork" if _can_fork(verb) else "spawn"
    with _running(partial(_run_here, verb, arguments, folder, QUIET), how=how) as process:
        yield process


@contextmanager
def running_in_fork(work: Callable[[], None]) -> Iterator[BaseProcess]:
    """A fork of this process that does `work`, until the block ends, and is killed then."""

    def with_one_thread() -> None:
        torch.set_num_threads(1)  # the threads of OpenMP do not outlive a fork
        work()

    with _running(with_one_thread, how="fork") as process:
        yield process


@contextmanager
def _running(work: Callable[[], None], *, how: Literal["fork", "spawn"]) -> Iterator[BaseProcess]:
    process = multiprocessing.get_context(how).Process(target=_end_with, args=(work,))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join(SECONDS)


def _can_fork(verb: str) -> bool:
    """Return whether a fork of this process can run the verb; then it imports and parses here what no fork has to."""
    # a fork cannot use a GPU; and once torch.export ran in this process, no fork of it can train
    if torch.cuda.is_available() or (verb in TRAINING and "torch.export._trace" in sys.modules):
        return False
    for module in (f"tasks.{verb}", "torch._inductor"):  # the second is what deterministic algorithms import
        importlib.import_module(module)
    digest(f"tasks.{verb}")  # which keeps the code of each file: no fork parses one
    return True


def _run_here(verb: str, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.update(environment)
    torch.set_num_threads(1)  # the threads of OpenMP do not outlive a fork
    sys.argv = [verb, *arguments]
    sys.modules.pop(f"tasks.{verb}", None)  # it runs as __main__
    runpy.run_module(f"tasks.{verb}", run_name="__main__", alter_sys=True)


def run_in_fork(work: Callable[[], None]) -> Finished:
    """Do `work` in a fork of this process, which is killed where it takes too long.

    Whatever the work does to its process, its environment or its limits ends with the fork.
    """
    readers, writers = zip(os.pipe(), os.pipe(), strict=True)
    process = multiprocessing.get_context("fork").Process(target=_work_apart, args=(work, writers))
    process.start()
    for writer in writers:
        os.close(writer)
    with ThreadPoolExecutor(len(readers)) as pool:
        texts = pool.map(_read, readers)
        process.join(SECONDS)
        status = process.exitcode
        process.kill()
        process.join(SECONDS)
        process.close()
        stdout, stderr = texts
    assert status is not None, f"still at work after {SECONDS} s: {stderr}"
    return Finished(status=status, stdout=stdout, stderr=stderr)


def _work_apart(work: Callable[[], None], writers: tuple[int, int]) -> None:
    for stream, writer in zip((1, 2), writers, strict=True):
        os.dup2(writer, stream)
        os.close(writer)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1)
    _end_with(work)


def _end_with(work: Callable[[], None]) -> NoReturn:
    """Do the work, and end this process with its status.

    What the tests' process does at its end belongs to no verb: where Prefect's services ran in it, their end fails in a
    fork, whose status is then 1 without a word.
    """
    logging.getLogger().handlers.clear()  # those of pytest
    gc.freeze()  # what the tests' process has is not looked through for garbage again and again
    status = status_of(work)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _read(file: int) -> str:
    with os.fdopen(file, encoding="utf-8") as stream:
        return stream.read()
