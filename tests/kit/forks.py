"""Run a verb as `python -m tasks.VERB` does, in a fork of the tests' own process: what is imported here costs it nothing."""

import logging
import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.kit.programs import SECONDS


def run_in_fork(work: Callable[[], None]) -> tuple[int, str, str]:
    """Do `work` in a fork of this process, and return its exit status and what it wrote to stdout and stderr.

    Whatever the work does to its process, its environment or its limits ends with the fork, which is killed where it takes
    too long.
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
    return status, stdout, stderr


def run_verb(verb: str, arguments: list[str], *, folder: Path, environment: dict[str, str]) -> None:
    """Run a verb in this process, which is to be a fork: it has another folder and another environment afterwards."""
    os.chdir(folder)
    os.environ.update(environment)
    module = f"tasks.{verb}"
    sys.argv = [module, *arguments]
    sys.modules.pop(module, None)  # it runs as __main__
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _work_apart(work: Callable[[], None], writers: tuple[int, int]) -> None:
    for stream, writer in zip((1, 2), writers, strict=True):
        os.dup2(writer, stream)
        os.close(writer)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1)
    logging.getLogger().handlers.clear()  # those of pytest
    work()


def _read(file: int) -> str:
    with os.fdopen(file, encoding="utf-8") as stream:
        return stream.read()
