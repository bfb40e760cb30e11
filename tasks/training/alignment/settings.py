"""What an adaptation to another domain can be asked for."""

from dataclasses import dataclass
from typing import Literal

from tasks.machine.bounds import Count

Method = Literal[
    "auto", "source", "standardise", "infomax", "infomax_as_is", "joint", "label_shift", "reweight", "align"
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AdaptOptions:
    """How a head is adapted to a target domain.

    method: auto tells by a classifier of domains whether to adapt, and how; `source` never does.
    align: the map of method align: coral aligns correlations, mmd and dann train an adapter.
    weights: what tells method reweight how alike a source sample is: a classifier of domains, or a kernel.
    min_unlabelled: with fewer samples of the target the source's head stays.
    """

    method: Method = "auto"
    align: Literal["coral", "mmd", "dann"] = "coral"
    weights: Literal["classifier", "kernel"] = "classifier"
    min_unlabelled: Count = 20
