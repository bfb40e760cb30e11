"""Where a twin ends and another picture begins, told by the data: altered copies and strangers in, two limits out.

Two things are measured. Probes are altered copies of a few samples: how near they stay to what they were made of says
how wide the limits must be to catch copies. Strangers say how narrow: a sample's fifth nearest picture on the other
side is hardly a copy of it, and from how the distances grow from there to the twentieth follows how often a stranger
comes nearer than any given distance.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.data.health.bits import HashDistance, hash_words
from tasks.data.health.hashes import Probes
from tasks.data.health.options import TwinOptions

NEAREST, FARTHEST = 5, 20  # neighbours; up to four true copies of one sample spoil nothing
NUM_ASKED = 500  # samples whose neighbours are looked at
CHUNK = 8192  # pictures whose hashes are compared at once: what the processor's cache holds


@dataclass(frozen=True, kw_only=True)
class TwinLimits:
    """Twins are pairs with at least `min_cosine` and at most `max_distance`, and how these two came about."""

    min_cosine: float
    max_distance: int  # the lesser of the two that follow
    copies_within: int  # the distance that catches as many copies as wanted
    strangers_beyond: int | None  # the distance within which no more strangers come than allowed; None where unknown
    recall: dict[str, float]  # of the probes, by kind
    false_alarms: float | None  # the share of samples that is expected to be taken for a copy by chance, at most


def set_limits(
    probes: Probes,
    left: NDArray[np.uint8],
    right: NDArray[np.uint8],
    *,
    distance: HashDistance,
    options: TwinOptions,
) -> TwinLimits:
    """As wide as it takes to catch a share `options.recall` of the probes, unless more than a share `options.max_false_alarms` of the
    left samples would then be taken for a copy by chance: `left` and `right` are the hashes of the two sides."""
    if not probes.cosines.size:  # no sample is used, so that none can leave
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
    """The largest cosine and the least distance that together catch a share `recall` of the copies: each of the two may
    lose half of what may be lost."""
    lost = (1 - recall) / 2
    min_cosine = np.quantile(probes.cosines, lost, method="lower")
    max_distance = np.quantile(probes.distances, 1 - lost, method="higher")
    return float(min_cosine), int(max_distance)


def recall_by_kind(probes: Probes, *, min_cosine: float, max_distance: int) -> dict[str, float]:
    """The share of the copies of each kind that the limits catch."""
    is_caught = (probes.cosines >= min_cosine) & (probes.distances <= max_distance)
    return dict(zip(probes.kinds, is_caught.mean(axis=0).tolist(), strict=True))


@dataclass(frozen=True, kw_only=True)
class Strangers:
    """How near other pictures come.

    The chance that a stranger is nearer than t grows as t to the power of the data's intrinsic dimension, which the
    distances of neighbours tell (maximum likelihood: Levina and Bickel 2004).
    """

    distances: NDArray[np.float64]  # (n,), of the neighbour number NEAREST
    dimension: float
    num_bits: int  # of a hash

    def share_within(self, distance: int) -> float:
        """The expected share of samples to which a stranger is at most so near."""
        ratio = np.minimum((distance + 1) / np.maximum(self.distances, 1), 1)  # distances are whole numbers
        return float((1 - (1 - ratio**self.dimension) ** (NEAREST - 1)).mean())

    def limit(self, *, max_share: float) -> int:
        """The largest distance within which at most such a share of samples has a stranger; -1 where there is none."""
        return max((each for each in range(self.num_bits) if self.share_within(each) <= max_share), default=-1)


def fit_strangers(left: NDArray[np.uint8], right: NDArray[np.uint8], *, distance: HashDistance) -> Strangers | None:
    """From the hashes (n, num_views, bytes) of both sides; None where the right side is too small to tell."""
    last = min(FARTHEST, len(right))
    if last <= NEAREST or not len(left):
        return None
    asked = np.unique(np.linspace(0, len(left) - 1, NUM_ASKED).astype(np.intp))
    words = hash_words(right)
    found = np.array(
        [_neighbours(hash_words(left[each : each + 1]), words, last, distance) for each in asked]
    )  # (asked, 2)
    # nearer than that, and the fifth is a copy too
    found = found[found[:, 0] >= np.median(found[:, 0]) / 2]
    growth = np.log(np.maximum(found[:, 1], 1) / np.maximum(found[:, 0], 1)).mean()
    dimension = sum(1 / k for k in range(NEAREST, last)) / max(growth, 1e-6)
    return Strangers(distances=found[:, 0], dimension=float(dimension), num_bits=distance.num_bits)


def _neighbours(
    one: NDArray[np.uint64], others: NDArray[np.uint64], last: int, distance: HashDistance
) -> tuple[float, float]:
    """The distances of the neighbours number NEAREST and `last`."""
    parts = (others[..., first : first + CHUNK] for first in range(0, others.shape[2], CHUNK))
    distances = np.concatenate([distance.of_pairs(one, part) for part in parts])
    nearest = np.partition(distances, (NEAREST - 1, last - 1))
    return float(nearest[NEAREST - 1]), float(nearest[last - 1])
