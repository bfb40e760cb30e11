"""The settings in params.yaml for adapting heads to other domains, and for samples unlike those of the training."""

from dataclasses import dataclass
from typing import Literal

from tasks.machine.bounds import Count, OpenFraction

Method = Literal[
    "auto", "source", "standardise", "infomax", "infomax_as_is", "joint", "label_shift", "reweight", "align"
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AdaptOptions:
    """The domains that heads are adapted to, and the way.

    targets: the names of domains; auto takes every domain most of whose samples have no label, if a classifier
        separates it from the others.
    method: auto decides by a classifier of domains whether to adapt, and how; `source` never adapts.
    align: the map of method align: coral aligns correlations, mmd and dann train an adapter.
    weights: how method reweight measures the likeness of a source sample: by a classifier of domains, or a kernel.
    statistics: shared, or own for running statistics of a domain's own in the batch-normalisation layers.
    min_unlabelled: with fewer samples of the target domain the source's head stays.
    unlike: the share of samples like the training's that may be marked as unlike; None marks none.
    """

    targets: Literal["auto"] | list[str]
    method: Method
    align: Literal["coral", "mmd", "dann"]
    weights: Literal["classifier", "kernel"]
    statistics: Literal["shared", "own"]
    min_unlabelled: Count
    unlike: OpenFraction | None
