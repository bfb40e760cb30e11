"""Read and write the hashes of a batch, with probes: altered copies of samples and how near they stay.

The marks stand beside them: see `tasks.data.health.marks` for those of texts, `pictures` for those of images.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.data.vectors.embeddings import open_tensors, read_tensors
from tasks.data.vectors.tensors import Tensor, write_tensors

TENSORS = ("hashes", "probe_cosines", "probe_distances")
MARKS = "marks"


@dataclass(frozen=True, kw_only=True)
class Probes:
    """Altered copies, compared with their originals: a row a sample, a column a kind of alteration."""

    kinds: tuple[str, ...]
    cosines: NDArray[np.float32]  # (num_probed, num_kinds)
    distances: NDArray[np.uint16]  # (num_probed, num_kinds)
    weights: NDArray[np.float64] | None = None  # (num_probed,): the samples that a row stands for; None for one batch


def write_hashes(
    path: Path,
    hashes: Iterable[NDArray[np.uint8]],
    *,
    shape: tuple[int, int, int],
    probes: Probes,
    marks: NDArray[np.uint8] | None = None,
) -> None:
    """Write the hashes and the probes of a batch.

    Args:
        hashes: pieces that together are `shape` = (num_samples, num_views, bytes), in the order of the manifest.
        marks: (num_samples, num_marks).
    """
    tensors = (
        Tensor(shape=shape, dtype=np.uint8, pieces=hashes),
        Tensor(shape=probes.cosines.shape, dtype=np.float32, pieces=[probes.cosines]),
        Tensor(shape=probes.distances.shape, dtype=np.uint16, pieces=[probes.distances]),
    )
    named = dict(zip(TENSORS, tensors, strict=True))
    if marks is not None:
        named[MARKS] = Tensor(shape=marks.shape, dtype=np.uint8, pieces=[marks])
    write_tensors(path, named, metadata={"kinds": ",".join(probes.kinds)})


def read_hashes(folder: Path, batches: Sequence[str], *, num_samples: int) -> tuple[NDArray[np.uint8], Probes]:
    """Return the hashes and probes of all batches, in their order.

    Raises:
        ValueError: the file of a batch is missing or torn, two batches were probed by different kinds of copies, or the
            number of hashes is not `num_samples`.
    """
    files = [read_tensors(folder, batch, what="hashes", names=TENSORS, fact="kinds") for batch in batches]
    if len({kinds for _, kinds in files}) > 1:
        raise ValueError("the batches were probed by different kinds of copies: run embed again")
    hashes, cosines, distances = (
        np.concatenate(parts) for parts in zip(*(tensors for tensors, _ in files), strict=True)
    )
    if len(hashes) != num_samples:
        raise ValueError(f"{len(hashes)} hashes for {num_samples} samples: run embed again")
    # a small batch has more probes a sample than a large one, and must not set the limits of all
    weights = np.concatenate([np.full(len(own), len(of) / max(len(own), 1)) for (of, own, _), _ in files])
    kinds = tuple(files[0][1].split(","))
    return hashes, Probes(kinds=kinds, cosines=cosines, distances=distances, weights=weights)


def read_marks(folder: Path, batch: str) -> NDArray[np.uint8] | None:
    """Return the marks (num_samples, num_marks) of a batch; None where it has none.

    Raises:
        ValueError: the file is missing or torn.
    """
    with open_tensors(folder, batch, what="hashes", fact="kinds") as (file, _):
        marks: NDArray[np.uint8] | None = file.get_tensor(MARKS) if MARKS in set(file.keys()) else None
    return marks
