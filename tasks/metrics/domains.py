"""Measure the heads that a candidate has for domains, each beside its general head."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.metrics.answered import Answered
from tasks.metrics.measures import measure_model
from tasks.metrics.options import MeasureOptions
from tasks.metrics.outcomes import GENERAL
from tasks.metrics.significance import compare, part_of, recorded
from tasks.targets.target import Truths


def measure_domains(
    truths: Truths,
    by_model: Mapping[str, Answered],
    options: MeasureOptions,
    *,
    domains: "pd.Series[str]",
    leaked: NDArray[np.bool_],
    is_shared: NDArray[np.bool_],
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Return, by domain, the measures of the candidate, which has a head for it, and of its general head.

    `flips` are those from the general head to the domain's. The model in use is measured where all samples of the
    domain are shared. The target is of the kind `classes`.

    Args:
        truths: those of n samples.
        by_model: the answers of `candidate`, of GENERAL and, where there is one, of `baseline`.
        domains: (n,), the domain whose head answers each sample; missing where the general head does.
    """
    measured: dict[str, Any] = {}
    for domain in sorted(domains.dropna().unique()):
        rows = (domains == domain).to_numpy(bool)
        of_rows = {name: by_model[name].of(rows) for name in by_model if name != "baseline" or is_shared[rows].all()}
        is_right = {name: answered.is_right(truths[rows]) for name, answered in of_rows.items()}
        groups_here = part_of(groups, rows)
        flips = compare(candidate=is_right["candidate"], baseline=is_right[GENERAL], groups=groups_here)
        measured[domain] = {"num_samples": len(truths[rows]), "flips": recorded(flips)} | {
            name: measure_model(
                truths[rows], answered, options=options, leaked=leaked[rows], seed=seed, groups=groups_here
            )
            for name, answered in of_rows.items()
        }
    return measured
