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
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.kit.programs import SECONDS, run_module

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

    # a fork cannot use a GPU; and once torch.export ran in this process, no fork of it can train
    if fresh or torch.cuda.is_available() or (verb in TRAINING and "torch.export._trace" in sys.modules):
        settings = {"cwd": folder, "env": os.environ | environment, "preexec_fn": limit}
        done = run_module(f"tasks.{verb}", *arguments, status=None, **settings)
        return Finished(status=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def work() -> None:
        limit()
        os.chdir(folder)
        os.environ.update(environment)
        torch.set_num_threads(1)  # the threads of OpenMP do not outlive a fork
        sys.argv = [verb, *arguments]
        del sys.modules[f"tasks.{verb}"]  # it runs as __main__
        runpy.run_module(f"tasks.{verb}", run_name="__main__", alter_sys=True)

    for module in (f"tasks.{verb}", "torch._inductor"):  # the second is what deterministic algorithms import
        importlib.import_module(module)  # here, so that no fork has to
    return run_in_fork(work)


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
    logging.getLogger().handlers.clear()  # those of pytest
    gc.freeze()  # what the tests' process has is not looked through for garbage again and again
    status = status_of(work)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # what the tests' process does at its end, such as Prefect's shutdown, belongs to no verb


def status_of(work: Callable[[], None]) -> int:
    """Do the work, and return the exit status that Python would give it; print what it raises, as Python does."""
    try:
        work()
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)  # noqa: T201
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _read(file: int) -> str:
    with os.fdopen(file, encoding="utf-8") as stream:
        return stream.read()
