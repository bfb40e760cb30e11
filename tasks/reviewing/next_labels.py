"""Choose the unlabelled samples whose labels would teach most: those in doubt, and those far from labelled ones.

The least margin (Scheffer et al. 2001) finds samples between two answers. Greedy k-centre (Gonzalez 1985; as a core
set, Sener and Savarese 2018) finds samples without a labelled one nearby.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.targets.number import Number
from tasks.targets.several import Several
from tasks.targets.target import Target

Vectors = NDArray[np.floating]
Positions = NDArray[np.intp]

MOST_CENTRES = 10_000  # labelled samples that coverage is measured from; of more, a random part
ROWS_AT_ONCE = 4096  # of the pool, whose distances to the centres are in memory


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The chosen samples (n,), as positions in the pool, and whether each was chosen for coverage or for its doubt."""

    positions: Positions
    is_coverage: NDArray[np.bool_]


def choose(
    pool: Vectors, labelled: Vectors, margins: NDArray[np.float64] | None, *, count: int, coverage: float, seed: int
) -> Choice:
    """Return `count` samples of the pool, or all of a smaller one: those in doubt first, then those for coverage.

    Args:
        pool: vectors (n, dim).
        labelled: vectors (m, dim) of the samples that have a label.
        margins: (n,) of the answers to the pool, as `least_margins` returns them; None chooses all for coverage.
        coverage: the share, 0..1, that is chosen for coverage.
    """
    count = min(count, len(pool))
    num_in_doubt = 0 if margins is None else count - round(coverage * count)
    in_doubt = np.empty(0, np.intp) if margins is None else np.argsort(margins, kind="stable")[:num_in_doubt]
    if len(labelled) > MOST_CENTRES:
        drawn = np.random.default_rng(seed).permutation(len(labelled))[:MOST_CENTRES]
        labelled = labelled[np.sort(drawn)]
    others = np.setdiff1d(np.arange(len(pool)), in_doubt)
    centres = np.concatenate([unit_rows(labelled), unit_rows(pool[in_doubt])])
    far = k_centre(unit_rows(pool[others]), centres, count=count - num_in_doubt)
    positions = np.concatenate([in_doubt, others[far]])
    return Choice(positions=positions, is_coverage=np.arange(count) >= num_in_doubt)


def least_margins(
    answers: Mapping[str, NDArray[np.float64]], targets: Mapping[str, Target]
) -> NDArray[np.float64] | None:
    """Return (n,) how sure the answers to each sample are, from 0 to 1; None where no target has margins.

    The margins of a target are compared by their ranks. A sample counts by the target that is the least sure of it.
    """
    ranks = [
        np.argsort(np.argsort(margins, kind="stable"), kind="stable") / max(len(margins), 1)
        for name, of_target in answers.items()
        if (margins := margins_of(of_target, targets[name])) is not None
    ]
    return np.min(ranks, axis=0) if ranks else None


def margins_of(answers: NDArray[np.float64], target: Target) -> NDArray[np.float64] | None:
    """Return the margin (n,) of a target's answers: the distance of each from becoming another answer.

    For classes and steps it is the difference between the two highest probabilities, for several labels the distance of
    the nearest label from its threshold. Numbers have none, because all their intervals are equally wide.
    """
    if isinstance(target, Number):
        return None
    if isinstance(target, Several):
        thresholds = np.array(target.thresholds) if target.thresholds else 0.5
        return np.asarray(np.abs(answers - thresholds).min(axis=1))
    if answers.shape[1] < 2:
        return np.ones(len(answers))
    second, first = np.partition(answers, -2, axis=1)[:, -2:].T
    return np.asarray(first - second)


def k_centre(pool: Vectors, centres: Vectors, *, count: int) -> Positions:
    """Return `count` positions of the pool, each the one that is farthest from the centres and those before it.

    Without centres, the first is the one that is nearest to the mean. Both are unit rows.
    """
    if not count:
        return np.empty(0, np.intp)
    chosen: list[int] = []
    if len(centres):
        starts = range(0, len(pool), ROWS_AT_ONCE)
        nearest = np.concatenate([(pool[at : at + ROWS_AT_ONCE] @ centres.T).max(axis=1) for at in starts])  # cosines
    else:
        chosen.append(int((pool @ pool.mean(axis=0)).argmax()))
        nearest = pool @ pool[chosen[0]]
    is_free = np.ones(len(pool), dtype=bool)
    is_free[chosen] = False
    while len(chosen) < count:
        farthest = int(np.where(is_free, nearest, np.inf).argmin())
        chosen.append(farthest)
        is_free[farthest] = False
        nearest = np.maximum(nearest, pool @ pool[farthest])
    return np.array(chosen, dtype=np.intp)


def unit_rows(vectors: Vectors) -> NDArray[np.float32]:
    """Return each row divided by its length."""
    rows = vectors.astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1))
