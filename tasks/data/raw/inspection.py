"""Paths of samples in; what the bytes of each are, or what is wrong with them, out: every sample is decoded once, whole.

Pictures come from strangers and decoders are written in C, so each is decoded in a process that may die of it.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tasks.data.samples.contents import read_content
from tasks.data.samples.defects import ImageDefectError
from tasks.data.samples.parquet_cells import UnreadableTableError
from tasks.data.samples.samples import sample_id
from tasks.images.decode import ImageFacts, inspect_image
from tasks.machine.lifeline import die_with_parent

STDERR = 2
CHUNK = 32  # samples that a process is handed at once


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of a picture: its shorter side in px, width x height in px, its bytes, and the processor time to decode it."""

    min_image_size: int
    max_image_pixels: int
    max_file_bytes: int
    max_decode_seconds: float


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A sample's identity ("" where it was not read) and its facts, or the reason why it has none."""

    sample_id: str = ""
    facts: ImageFacts | None = None
    reason: str = ""
    detail: str = ""


def inspect_all(root: Path, paths: Sequence[str], limits: Limits) -> Iterator[Inspection]:
    """An inspection for each of the paths in the batch `root`, in their order, by a process a core."""
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    inspect = partial(_inspect_chunk, root, limits=limits)
    done = 0
    while done < len(chunks):
        pool = _pool(os.cpu_count() or 1)
        try:
            for inspections in pool.map(inspect, chunks[done:]):
                yield from inspections
                done += 1
        except BrokenProcessPool:  # by this chunk or by one after it, which then breaks the next pool
            for path in chunks[done]:
                yield _inspect_alone(root, path, limits)
            done += 1
        finally:
            pool.shutdown(cancel_futures=True)


def inspect_sample(path: Path, limits: Limits) -> Inspection:
    """Read and decode one sample. An error of the disk is raised; anything wrong with the sample is told."""
    try:
        size = _num_bytes(path)
        content = b"" if size > limits.max_file_bytes else read_content(path)
    except PermissionError:
        return Inspection(reason="unreadable", detail="the file may not be read")
    except FileNotFoundError:
        return Inspection(reason="missing_file", detail="it went away while the batch was looked at")
    except UnreadableTableError as error:
        return Inspection(reason="unreadable_row", detail=str(error))
    if (size := max(size, len(content))) > limits.max_file_bytes:
        return Inspection(reason="too_many_bytes", detail=f"{size} bytes, expected at most {limits.max_file_bytes}")
    identity = sample_id(content)
    try:
        facts = inspect_image(content, min_image_size=limits.min_image_size, max_image_pixels=limits.max_image_pixels)
    except ImageDefectError as defect:
        return Inspection(sample_id=identity, reason=defect.reason, detail=str(defect))
    return Inspection(sample_id=identity, facts=facts)


def _num_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except NotADirectoryError:  # the row of a table, which is read in groups
        return 0


def _inspect_chunk(root: Path, paths: Sequence[str], *, limits: Limits) -> list[Inspection]:
    return [_inspect_in_time(root / path, limits) for path in paths]


def _inspect_in_time(path: Path, limits: Limits) -> Inspection:
    """The signal ends the process: a decoder in C cannot be interrupted otherwise."""
    signal.setitimer(signal.ITIMER_VIRTUAL, limits.max_decode_seconds)
    inspection = inspect_sample(path, limits)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return inspection


def _inspect_alone(root: Path, path: str, limits: Limits) -> Inspection:
    with _pool(1) as pool:
        try:
            return pool.submit(_inspect_in_time, root / path, limits).result()
        except BrokenProcessPool:
            detail = f"its decoder crashed, ran out of memory, or took longer than {limits.max_decode_seconds:g} s"
            return Inspection(reason="unreadable", detail=detail)


def _pool(processes: int) -> ProcessPoolExecutor:
    # forked, so that starting costs milliseconds
    return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("fork"), initializer=_prepare)


def _prepare() -> None:
    die_with_parent()
    # libtiff and others tell of each fault on the terminal; the ledger has it
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDERR)
