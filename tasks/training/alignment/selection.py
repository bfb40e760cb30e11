"""Select the domains to adapt heads to, and the samples for the methods: as many as fit in memory and in a minute."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.machine.names import listed, printable
from tasks.training.alignment.options import AdaptOptions

MOST_SAMPLES = 20_000  # of all sources together, and of a target domain

Positions = NDArray[np.intp]


def domains_to_adapt_to(domain: "pd.Series[str]", is_labelled: NDArray[np.bool_], options: AdaptOptions) -> list[str]:
    """Return the target domains in alphabetical order; none where `auto` finds none, or no labelled domain is left.

    Args:
        domain: (n,) of all samples that may be learned from.
        is_labelled: (n,) whether a sample has a label.

    Raises:
        ValueError: the options name a domain that no sample has, or leave no other domain with labels.
    """
    known = sorted(domain.unique())
    if options.targets == "auto":
        num, num_missing = domain.value_counts(), domain[~is_labelled].value_counts()
        wanted = [name for name in known if num_missing.get(name, 0) >= max(options.min_unlabelled, num[name] / 2)]
        return wanted if is_labelled[~domain.isin(wanted)].any() else []
    check_domains(known, options.targets)
    wanted = [name for name in known if name in options.targets]
    if not is_labelled[~domain.isin(wanted)].any():
        others = "there is no other domain" if wanted == known else "no other domain has a label"
        raise ValueError(
            f"adapt.targets names {listed(wanted)}, and {others}: land labelled samples of "
            "another domain, or set adapt.targets to []"
        )
    return wanted


def check_domains(known: Sequence[str], targets: Literal["auto"] | list[str]) -> None:
    """Raise ValueError where adapt.targets names an unknown domain."""
    for name in [] if targets == "auto" else targets:
        if name not in known:
            raise ValueError(
                f"adapt.targets names the domain {printable(name)}, which no sample of train, val or the pool has, "
                f"expected one of {listed(known)}: correct the spelling, or land samples of it"
            )


def even_draw(ids: "pd.Series[str]", groups: Sequence["pd.Series[str]"], *, most: int = MOST_SAMPLES) -> Positions:
    """Return at most `most` of the positions (n,), rising: the same share of each group, and one of each at least.

    A sample_id is a hash, so its order is a fair draw, which stays when other samples come.
    """
    places = pd.Series(np.arange(len(ids)), index=ids.index)
    order = ids.sort_values(kind="stable").index
    by_group = places[order].groupby([group.fillna("")[order] for group in groups], sort=False)
    rank = by_group.cumcount() / by_group.transform("size")
    return np.sort(places[rank.sort_values(kind="stable").index[:most]].to_numpy())


def labelled_first(ids: "pd.Series[str]", is_labelled: NDArray[np.bool_], *, most: int = MOST_SAMPLES) -> Positions:
    """Return at most `most` of the positions (n,), rising: those with a label, then an even draw of the others."""
    return np.sort(np.lexsort((ids.to_numpy(), ~is_labelled))[:most])
