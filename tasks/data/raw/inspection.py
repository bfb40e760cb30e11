"""Inspect every whole sample of a batch once: return its identity and facts, or the reason why it cannot be used.

Samples are untrusted and decoders are written in C, so samples are decoded in other processes, which they may crash.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from tasks.data.raw.options import ReadingLimits
from tasks.data.samples.contents import size_of
from tasks.data.samples.defects import DefectError
from tasks.data.samples.parquet_cells import UnreadableTableError
from tasks.data.samples.samples import sample_id
from tasks.machine.cluster import LOCAL, blocks_of, spread_to_cluster
from tasks.machine.options import ScaleOptions
from tasks.machine.processes import spread_to_processes

BLOCK = 512  # samples that a worker of a cluster inspects at once
MISSING = "missing_file"


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A sample's identity ("" where it was not read) and its facts, or the reason why it has none."""

    sample_id: str = ""
    facts: Any = None
    reason: str = ""
    detail: str = ""


def inspect_all(
    root: Path,
    paths: Sequence[str],
    inspect: Callable[[bytes], Any],
    *,
    read: Callable[[Path], bytes],
    limits: ReadingLimits,
    scale: ScaleOptions = LOCAL,
) -> Iterator[Inspection]:
    """Yield an inspection for each of the paths in the batch `root`, in their order.

    Args:
        inspect: decodes a sample's bytes and returns its facts, or raises DefectError. It must be picklable.
        read: the modality's function that returns a sample's bytes by its path.
        scale: where the samples are inspected.
    """
    one = partial(_inspect, root=root, inspect=inspect, read=read, max_file_bytes=limits.max_file_bytes)
    inspect_here = partial(_inspect_apart, inspect=one, max_seconds=limits.max_decode_seconds)
    if scale.engine == "local":
        yield from inspect_here(paths)
    else:
        work = partial(_inspect_block, inspect_here=partial(inspect_here, num_processes=1))
        parts = spread_to_cluster(blocks_of(paths, BLOCK), work, address=scale.address)
        for path, inspection in zip(paths, chain.from_iterable(parts), strict=True):
            if inspection.reason == MISSING:
                check_shared(root / path)
            yield inspection


def check_shared(path: Path) -> None:
    """Raise ValueError where a sample that a node of a cluster did not find is on this machine."""
    try:
        size_of(path)
    except OSError:
        return
    raise ValueError(
        f"{path} is here, but a node of the Ray cluster does not find it: give every node its folder at the same path"
    )


def _inspect_block(paths: Sequence[str], *, inspect_here: Callable[..., Iterator[Inspection]]) -> list[Inspection]:
    return list(inspect_here(paths))


def _inspect_apart(
    paths: Sequence[str],
    *,
    inspect: Callable[[str], Inspection],
    max_seconds: float,
    num_processes: int | None = None,
) -> Iterator[Inspection]:
    detail = f"its decoder crashed, ran out of memory, or took longer than {max_seconds:g} s"
    yield from spread_to_processes(
        paths, inspect, max_seconds=max_seconds, num_processes=num_processes,
        dead=lambda path: Inspection(reason="unreadable", detail=detail),
    )  # fmt: skip


def _inspect(
    path: str, *, root: Path, inspect: Callable[[bytes], Any], read: Callable[[Path], bytes], max_file_bytes: int
) -> Inspection:
    return inspect_sample(root / path, inspect, read=read, max_file_bytes=max_file_bytes)


def inspect_sample(
    path: Path, inspect: Callable[[bytes], Any], *, read: Callable[[Path], bytes], max_file_bytes: int
) -> Inspection:
    """Read and decode one sample.

    A problem of the sample is returned as its reason; an error of the disk is raised.
    """
    try:
        size = size_of(path)
        content = b"" if size > max_file_bytes else read(path)
    except PermissionError:
        return Inspection(reason="unreadable", detail="no permission to read the file")
    except FileNotFoundError:
        return Inspection(reason=MISSING, detail="it disappeared while the batch was scanned")
    except UnreadableTableError as error:
        return Inspection(reason="unreadable_row", detail=str(error))
    except DefectError as defect:
        return Inspection(reason=defect.reason, detail=str(defect))
    if (size := max(size, len(content))) > max_file_bytes:
        return Inspection(reason="too_many_bytes", detail=f"{size} bytes, expected at most {max_file_bytes}")
    identity = sample_id(content)
    try:
        facts = inspect(content)
    except DefectError as defect:
        return Inspection(sample_id=identity, reason=defect.reason, detail=str(defect))
    return Inspection(sample_id=identity, facts=facts)
