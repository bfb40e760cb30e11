"""Set the limits that separate a copy of a sample from another sample: the least cosine and the largest hash distance.

Two measurements of the data set them. Probes are altered copies of a few samples: their distance from the originals
shows how wide the limits must be to catch copies. Strangers are other samples, and show how narrow the limits must be.
The fifth nearest sample on the other side is hardly a copy; the growth of the distances from the fifth to the twentieth
neighbour shows how often a stranger comes nearer than a given distance.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.data.health.bits import HashDistance
from tasks.data.health.hashes import Probes
from tasks.data.health.options import TwinOptions
from tasks.machine.cores import spread

NEAREST, FARTHEST = 5, 20  # neighbours; up to four true copies of a sample do not affect the fit
NUM_MEASURED = 500  # samples whose neighbours are measured
STEPS = 8  # of 1 - the least cosine, from a number to its double: a step is at most 9 % wider than the limit
CHUNK = 8192  # samples whose hashes are compared at once: they fit in the processor's cache


@dataclass(frozen=True, kw_only=True)
class TwinLimits:
    """The limits of twins, `min_cosine` at least and `max_distance` at most, and the measurements behind them."""

    min_cosine: float
    max_distance: int  # the lesser of the next two
    copies_within: int  # the distance that catches the wanted share of copies
    strangers_beyond: int | None  # the distance within which strangers are as rare as required; None if unknown
    recall: dict[str, float]  # of the probes, by kind
    false_alarms: float | None  # an upper bound of the share of samples that are taken for copies by chance


def set_limits(
    probes: Probes,
    left: NDArray[np.uint8],
    right: NDArray[np.uint8],
    *,
    distance: HashDistance,
    options: TwinOptions,
) -> TwinLimits:
    """Return limits that catch a share `options.recall` of the probes.

    They are narrower if more than a share `options.max_false_alarms` of the left samples would be taken for copies by
    chance.
    `left` and `right` are the hashes (n, num_views, bytes) of the two sides.
    """
    if not probes.cosines.size:  # no sample is in use, so none can leave
        return TwinLimits(
            min_cosine=1.0, max_distance=-1, copies_within=-1, strangers_beyond=None, recall={}, false_alarms=None
        )
    min_cosine, copies_within = reach(probes, recall=options.recall)
    strangers = fit_strangers(left, right, distance=distance)
    beyond = strangers.limit(max_share=options.max_false_alarms) if strangers else None
    max_distance = copies_within if beyond is None else min(copies_within, beyond)
    return TwinLimits(
        min_cosine=min_cosine,
        max_distance=max_distance,
        copies_within=copies_within,
        strangers_beyond=beyond,
        recall=recall_by_kind(probes, min_cosine=min_cosine, max_distance=max_distance),
        false_alarms=strangers.share_within(max_distance) if strangers else None,
    )


def reach(probes: Probes, *, recall: float) -> tuple[float, int]:
    """Return the largest cosine and the least distance that together catch a share `recall` of the copies.

    Each of the two may lose half of the copies that may be lost. A probe counts as much as the samples that it stands
    for. The cosine is a step of `STEPS`, so that the probes of a new batch seldom move it: pairs that were compared
    under other limits have to be compared again.
    """
    lost = (1 - recall) / 2
    weights = np.ones(len(probes.cosines)) if probes.weights is None else probes.weights
    of_copies = np.repeat(weights, len(probes.kinds))
    # the first value at which the weights reach the share, so that no more than half is lost
    min_cosine = np.quantile(probes.cosines.ravel(), lost, weights=of_copies, method="inverted_cdf")
    max_distance = np.quantile(probes.distances.ravel(), 1 - lost, weights=of_copies, method="inverted_cdf")
    return _step_below(float(min_cosine)), int(max_distance)


def _step_below(cosine: float) -> float:
    """Return the next cosine of which 1 - the cosine is a power of the STEPS-th root of 2."""
    return 1 - 2 ** (math.ceil(STEPS * math.log2(1 - cosine)) / STEPS) if cosine < 1 else cosine


def recall_by_kind(probes: Probes, *, min_cosine: float, max_distance: int) -> dict[str, float]:
    """Return the share of the copies of each kind that the limits catch."""
    is_caught = (probes.cosines >= min_cosine) & (probes.distances <= max_distance)
    return dict(zip(probes.kinds, is_caught.mean(axis=0).tolist(), strict=True))


@dataclass(frozen=True, kw_only=True)
class Strangers:
    """A model of the distances of other samples.

    The chance that a stranger is nearer than t grows as t to the power of the data's intrinsic dimension, which is
    estimated from the distances of neighbours (maximum likelihood: Levina and Bickel 2004).
    """

    distances: NDArray[np.float64]  # (n,), of the neighbour number NEAREST
    dimension: float
    num_bits: int  # of a hash

    def share_within(self, distance: int) -> float:
        """Return the expected share of samples that have a stranger within `distance`."""
        ratio = np.minimum((distance + 1) / np.maximum(self.distances, 1), 1)  # distances are whole numbers
        return float((1 - (1 - ratio**self.dimension) ** (NEAREST - 1)).mean())

    def limit(self, *, max_share: float) -> int:
        """Return the largest distance within which at most `max_share` of the samples have a stranger, or -1."""
        distances = range(self.num_bits)
        return max((distance for distance in distances if self.share_within(distance) <= max_share), default=-1)


def fit_strangers(left: NDArray[np.uint8], right: NDArray[np.uint8], *, distance: HashDistance) -> Strangers | None:
    """Fit the model to the hashes (n, num_views, bytes) of both sides; None if the right side is too small."""
    last = min(FARTHEST, len(right))
    if last <= NEAREST or not len(left):
        return None
    measured = np.unique(np.linspace(0, len(left) - 1, NUM_MEASURED).astype(np.intp))
    words = distance.words(right)

    def neighbours_of(row: int) -> tuple[float, float]:
        return _neighbours(distance.words(left[row : row + 1]), words, last, distance)

    neighbours = np.array([*spread(measured.tolist(), neighbours_of)])  # (measured, 2)
    # a fifth neighbour that is nearer than that is a copy too
    neighbours = neighbours[neighbours[:, 0] >= np.median(neighbours[:, 0]) / 2]
    growth = np.log(np.maximum(neighbours[:, 1], 1) / np.maximum(neighbours[:, 0], 1)).mean()
    dimension = sum(1 / k for k in range(NEAREST, last)) / max(growth, 1e-6)
    return Strangers(distances=neighbours[:, 0], dimension=float(dimension), num_bits=distance.num_bits)


def _neighbours(
    one: NDArray[np.uint64], others: NDArray[np.uint64], last: int, distance: HashDistance
) -> tuple[float, float]:
    """Return the distances of the neighbours number NEAREST and `last`."""
    parts = (others[..., first : first + CHUNK] for first in range(0, others.shape[2], CHUNK))
    distances = np.concatenate([distance.of_pairs(one, part) for part in parts])
    nearest = np.partition(distances, (NEAREST - 1, last - 1))
    return float(nearest[NEAREST - 1]), float(nearest[last - 1])
